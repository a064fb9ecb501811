"""The report that people look at: one HTML file made from journals, which needs no network and nothing beside it.

::

    journals --reading--> events --record--> runs --groups--> page ----> report.html
                                   |  timeline: series, thinned                ^
                                   |  breakers: states, calls                  |  report.css, *.js
                                   +- graph: the call graph, laid out ---------+
"""
