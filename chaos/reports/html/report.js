/*
 * The page: fills each experiment's section with its time lines and plots, and gives the call graph, the theme and the
 * copy buttons their life.
 */

const ROW_HEIGHT = 24;
const THEMES = {auto: "as the system", light: "light", dark: "dark"};

/** Phases, faults, breakers that were not closed, and what else happened, over the same seconds as the plots. */
class TimeLine extends Drawing {
  /** @param {View} view  @param {RunData} run */
  constructor(view, run) {
    super(view, `Time line ${run.label}: ${run.faults.map(([, what, from, to]) => `${what}, second ${from} to ${to}`).join("; ") || "no faults"}`);
    this.run = run;
    const rows = 1 + run.faults.length + run.breakers.length + (run.happenings.length ? 1 : 0);
    this.height = MARGIN.top + rows * ROW_HEIGHT + 8 + MARGIN.bottom;
  }

  draw() {
    this.begin();
    this.backdrop(this.height - MARGIN.bottom);
    let y = MARGIN.top;
    for (const [name, start, end] of this.run.phases) {
      this.bar(`phase ${name}`, start, end, y, name.replaceAll("_", " "), true);
    }
    for (const [name, what, start, end, touched] of this.run.faults) {
      y += ROW_HEIGHT;
      this.bar(touched === false ? "fault idle" : "fault", start, end, y, `${what || name}${touched === false ? ": touched nothing" : ""}`);
    }
    for (const [name, spans] of this.run.breakers) {
      y += ROW_HEIGHT;
      for (const [start, end, state] of spans) this.bar(`breaker ${state}`, start, end, y, "");
      this.label(spans[0][0], spans[spans.length - 1][1], y, spans.length === 1, `breaker ${name}: ${[...new Set(spans.map((one) => one[2]))].join(", ")}`);
    }
    if (this.run.happenings.length) {
      y += ROW_HEIGHT;
      for (const [at, what] of this.run.happenings) {
        if (at < this.view.start || at > this.view.stop) continue;
        this.content.append(
          make("svg:circle", {class: "happening", cx: this.x(at), cy: y + 10, r: 4}, make("svg:title", {}, `${at} s: ${what}`)));
      }
    }
    this.follow();
  }

  bar(kind, start, end, y, said, inside = false) {
    const left = Math.max(this.x(start), MARGIN.left);
    const right = Math.min(this.x(end), this.width - MARGIN.right);
    if (right < left) return;
    this.content.append(
      make("svg:rect", {class: kind, x: left, y: y + 1, width: Math.max(2, right - left), height: ROW_HEIGHT - 5, rx: 3},
        make("svg:title", {}, `${said || kind}: ${start} s to ${end} s`)));
    if (inside && said.length * 6.4 + 8 < right - left) {
      this.content.append(make("svg:text", {class: "bar-said", x: left + 6, y: y + 15}, said));
    } else if (!inside && said) {
      this.label(start, end, y, true, said);
    }
  }

  /** Write what a bar is: in it (where it is `solid`), behind it or in front of it, wherever there is room first. */
  label(start, end, y, solid, said) {
    const [left, right] = [MARGIN.left, this.width - MARGIN.right];
    const [from, to] = [Math.max(this.x(start), left), Math.min(this.x(end), right)];
    if (to < from) return;
    const rooms = [["start", solid ? to - from - 10 : 0, from + 6, "bar-said"], ["start", right - to - 10, to + 6, "beside"], ["end", from - left - 10, from - 6, "beside"]];
    const needed = said.length * 6.3;
    const best = rooms.find(([, room]) => room >= needed) ?? rooms.sort((one, other) => other[1] - one[1])[0];
    const letters = Math.floor(best[1] / 6.3);
    const shown = letters >= said.length ? said : letters > 3 ? `${said.slice(0, letters - 1)}…` : "";
    this.content.append(make("svg:text", {class: `${best[3]}`, x: best[2], y: y + 15, "text-anchor": best[0]}, shown));
  }

  said() {
    const {second} = this.view;
    const active = this.run.faults.filter(([, , from, to]) => from <= second && second < to).map(([, what]) => what);
    return `${super.said()}: ${active.join(", ") || "no fault in place"}`;
  }
}

/** Fill one experiment's section. */
function fill(section, group) {
  const view = new View(group.runs);
  section.querySelectorAll("figure.timeline").forEach((box) => {
    const run = group.runs[Number(box.dataset.run)];
    if (!run.phases.length) return;
    if (run.label) box.append(make("figcaption", {}, run.label));
    new TimeLine(view, run).attach(box);
    if (run.breakers_left_out) box.append(make("p", {class: "quiet"}, `and ${run.breakers_left_out} more breakers`));
  });
  const [near, more] = section.querySelectorAll(".plots");
  const build = (place, plots) => place.append(...plots.map((plot) => new Plot(view, plot).build()));
  const others = group.plots.filter((plot) => plot.more);
  build(near, group.plots.filter((plot) => !plot.more));
  near.before(view.spoken, view.reset);
  if (!group.plots.length) near.append(make("p", {class: "quiet"}, "No second was measured."));
  const details = more.closest("details");
  details.hidden = !others.length;
  details.querySelector("summary").textContent = `Other figures (${others.length})`;
  details.addEventListener("toggle", () => details.open && !more.children.length && build(more, others));
  graph(section, group);
}

/** Tell of the line of the call graph that is pointed at; arrow keys go from line to line. */
function graph(section, group) {
  const lines = [...section.querySelectorAll(".graph .pair")];
  for (const line of lines) {  // a thin line is hard to point at
    const reach = line.querySelector(".way").cloneNode();
    reach.setAttribute("class", "reach");
    line.prepend(reach);
  }
  const detail = section.querySelector(".graph-detail");
  if (!lines.length) return;
  const drawing = lines[0].ownerSVGElement;
  const tell = (line) => {
    lines.forEach((one) => one.classList.toggle("told", one === line));
    const {from, to} = group.pairs[Number(line.dataset.pair)];
    drawing.querySelectorAll(".node").forEach((one) => one.classList.toggle("told", [from, to].includes(one.dataset.service)));
    detail.replaceChildren(...about(group.pairs[Number(line.dataset.pair)], group.runs));
  };
  lines.forEach((line, at) => {
    line.setAttribute("tabindex", at ? "-1" : "0");
    line.addEventListener("pointerenter", () => tell(line));
    line.addEventListener("click", () => line.focus());
    line.addEventListener("focus", () => tell(line));
    line.addEventListener("keydown", (event) => {
      const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (!by) return;
      event.preventDefault();
      const next = lines[(at + by + lines.length) % lines.length];
      line.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  });
  const first = lines.find((line) => line.classList.contains("faulted"));
  if (first) tell(first);
}

/** Say in words and a table what is known of a pair of services. */
function about(pair, runs) {
  const counted = pair.tallies.map(([calls, errors], at) =>
    calls ? `${runs[at].short ? `${runs[at].short} ` : ""}${calls} calls, ${errors} failed` : "").filter(Boolean);
  const said = [];
  if (pair.edges) said.push(`${pair.edges} ${pair.edges === 1 ? "edge" : "edges"}, ${pair.faulted || "none"} with a fault.`);
  said.push(counted.length ? `As the callers count: ${counted.join("; ")}.` : "The callers do not count these calls.");
  const parts = [make("h4", {}, `${pair.from} → ${pair.to}`), make("p", {}, said.join(" "))];
  if (!pair.listed.length) return parts;
  const heads = ["edge", "fault", ...(counted.length ? runs.map((run) => `failed / calls${run.short ? `, ${run.short}` : ""}`) : [])];
  const named = (service, number) => (number ? `${service}-${number}` : service);
  const rows = pair.listed.map(([from, to, faulted, ...tallies]) =>
    make("tr", {class: faulted ? "faulted" : null}, make("th", {scope: "row"}, `${named(pair.from, from)} → ${named(pair.to, to)}`), make("td", {}, faulted ? "yes" : ""),
      ...(counted.length ? tallies.map(([calls, errors]) => make("td", {class: "number"}, calls === undefined ? "–" : `${errors} / ${calls}`)) : [])));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((one) => make("th", {scope: "col"}, one)))), make("tbody", {}, ...rows));
  const left = pair.edges - pair.listed.length;
  const more = left > 0 ? [make("p", {class: "quiet"}, `and ${left} more edges`)] : [];
  return [...parts, make("div", {class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Edges"}, table), ...more];
}

/** Light, dark, or what the system wants; remembered where the browser allows. */
function theme() {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const set = (name) => {
    root.dataset.theme = name;
    button.textContent = `Theme: ${THEMES[name]}`;
  };
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("chaos-report-theme") ?? "auto";
  } catch { /* a browser that keeps nothing of files */ }
  set(chosen in THEMES ? chosen : "auto");
  button.hidden = false;
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    set(names[(names.indexOf(root.dataset.theme) + 1) % names.length]);
    try {
      localStorage.setItem("chaos-report-theme", root.dataset.theme);
    } catch { /* likewise */ }
  });
}

/** Copy what a button names; where the browser forbids it, select it so that a key can. */
async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2500);
}

const data = JSON.parse(document.getElementById("data").textContent);
theme();
data.groups.forEach((group) => fill(document.getElementById(group.id), group));
document.querySelectorAll("button.copy").forEach((button) => button.addEventListener("click", () => copy(button)));
