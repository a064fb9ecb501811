"""``python -m chaos``: the command line, where another program is called ``chaos``."""

from chaos.cli.main import main

if __name__ == "__main__":
    main()
