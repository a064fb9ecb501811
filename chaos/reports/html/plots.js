"use strict";

/*
 * Line plots that share one stretch of time and one crosshair.
 *
 * A View is what all plots of an experiment have in common: which seconds are shown, and which second is read. A Plot
 * draws its lines as SVG and tells its View what a hand or a key wants; the View tells every Plot to follow.
 *
 * @typedef {{title: string, colour: string, run: number, width: number, mean: (number|null)[],
 *            low?: (number|null)[], high?: (number|null)[]}} Line   values of buckets, `width` seconds each, from 0 on
 * @typedef {{title: string, unit: string, lines: Line[], limits: [number, string][], more: boolean}} PlotData
 * @typedef {{label: string, short: string, end: number, phases: [string, number, number][],
 *            faults: [string, string, number, number, boolean|null][],
 *            breakers: [string, [number, number, string][]][], breakers_left_out: number,
 *            happenings: [number, string][]}} RunData                times are seconds of the run
 */

const MARGIN = {left: 58, right: 14, top: 10, bottom: 24};
const PLOT_HEIGHT = 196;

/** Make an element of SVG or, without a namespace in `name`, of HTML; null attributes are left out. */
function make(name, attributes = {}, ...children) {
  const [space, local] = name.startsWith("svg:") ? ["http://www.w3.org/2000/svg", name.slice(4)] : [null, name];
  const made = space ? document.createElementNS(space, local) : document.createElement(local);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Write a value with its unit as the rest of the report does. Not quite all is never written as 100 %. */
function figure(value, unit) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (unit === "%") {
    const percent = value * 100;
    for (let digits = 2; digits < 6; digits += 1) {
      const said = String(Number(percent.toFixed(digits)));
      if ((said !== "100" || percent === 100) && (said !== "0" || percent === 0)) return `${said} %`;
    }
    return `${percent} %`;
  }
  if (unit === "s") {
    if (size === 0) return "0 s";
    if (size < 0.9995) return `${Number((value * 1000).toFixed(size < 0.0095 ? 1 : 0))} ms`;
    return `${Number(value.toFixed(size < 9.995 ? 2 : 1))} s`;
  }
  const plain = Number(value.toPrecision(size >= 1000 ? 4 : 3));
  return unit === "/s" ? `${plain} /s` : `${plain}`;
}

/** Return round numbers from `low` to `high`, about `wanted` of them. */
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) found.push(at * step);
  return found;
}

/** What all plots of one experiment share. */
class View {
  /** @param {RunData[]} runs */
  constructor(runs) {
    this.runs = runs;
    this.end = Math.max(1, ...runs.map((run) => run.end));
    this.start = 0;
    this.stop = this.end;
    this.second = null;
    this.followers = [];
    this.spoken = make("p", {class: "unseen", "aria-live": "polite"});
    this.reset = make("button", {type: "button", class: "reset", hidden: ""}, "Show the whole run");
    this.reset.addEventListener("click", () => this.show(0, this.end));
  }

  get zoomed() {
    return this.start > 0 || this.stop < this.end;
  }

  /** Show the seconds from `start` to `stop`, at least two of them. */
  show(start, stop) {
    const width = Math.min(this.end, Math.max(2, stop - start));
    this.start = Math.min(Math.max(0, start), this.end - width);
    this.stop = this.start + width;
    this.reset.hidden = !this.zoomed;
    this.followers.forEach((one) => one.draw());
  }

  /** Read the plots at a moment; null reads none. */
  read(second) {
    this.second = second === null ? null : Math.min(Math.max(0, second), this.end - 1e-6);
    this.followers.forEach((one) => one.follow());
  }

  /** Move the crosshair by a number of seconds, and bring it into sight. */
  step(seconds) {
    const from = this.second === null ? (seconds > 0 ? this.start - 0.5 : this.stop - 0.5) : this.second;
    const to = Math.min(Math.max(0, Math.floor(from + seconds) + 0.5), this.end - 1e-6);
    if (to < this.start || to > this.stop) this.show(to - (this.stop - this.start) / 2, to + (this.stop - this.start) / 2);
    this.read(to);
  }

  /** Make the stretch that is shown `factor` times as long, around what is read. */
  zoom(factor) {
    const middle = this.second ?? (this.start + this.stop) / 2;
    this.show(middle - (middle - this.start) * factor, middle + (this.stop - middle) * factor);
  }

  /** Name the phase of the experiment at a moment. */
  phase(second) {
    const found = this.runs[0].phases.find(([, start, end]) => start <= second && second < end);
    return found ? found[0].replaceAll("_", " ") : "";
  }
}

/** A drawing with seconds across: what plots and the time line have in common. */
class Drawing {
  constructor(view, label) {
    this.view = view;
    this.width = 600;
    this.height = PLOT_HEIGHT;
    this.svg = make("svg:svg", {class: "drawing", tabindex: "0", role: "group", "aria-label": label});
    this.content = make("svg:g");
    this.cross = make("svg:line", {class: "cross", visibility: "hidden"});
    this.moment = make("svg:text", {class: "moment", visibility: "hidden"});
    this.selection = make("svg:rect", {class: "selection", visibility: "hidden"});
    this.svg.append(this.content, this.selection, this.cross, this.moment);
    view.followers.push(this);
    this.listen();
  }

  x(second) {
    const {start, stop} = this.view;
    return MARGIN.left + ((second - start) / (stop - start)) * (this.width - MARGIN.left - MARGIN.right);
  }

  second(x) {
    const {start, stop} = this.view;
    return start + ((x - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right)) * (stop - start);
  }

  /** Redraw whenever the place for it changes. */
  attach(parent) {
    parent.append(this.svg);
    new ResizeObserver(() => {
      const width = Math.round(parent.clientWidth);
      if (width > 0 && width !== this.width) {
        this.width = width;
        this.draw();
      }
    }).observe(parent);
    this.width = Math.round(parent.clientWidth) || this.width;
    this.draw();
  }

  listen() {
    let from = null;
    const at = (event) => {
      const box = this.svg.getBoundingClientRect();
      return ((event.clientX - box.left) / box.width) * this.width;
    };
    this.svg.addEventListener("pointerdown", (event) => {
      this.view.read(this.second(at(event)));
      if (event.pointerType === "touch" || event.button !== 0) return;
      from = at(event);
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointermove", (event) => {
      this.view.read(this.second(at(event)));
      if (from === null) return;
      const [left, right] = [Math.min(from, at(event)), Math.max(from, at(event))];
      this.selection.setAttribute("x", left);
      this.selection.setAttribute("width", right - left);
      this.selection.setAttribute("y", 0);
      this.selection.setAttribute("height", this.height);
      this.selection.setAttribute("visibility", right - left > 4 ? "visible" : "hidden");
    });
    const done = (event) => {
      if (from !== null && event.type === "pointerup" && Math.abs(at(event) - from) > 4) {
        const [start, stop] = [from, at(event)].map((one) => this.second(one)).sort((one, other) => one - other);
        this.view.show(start, stop);
      }
      from = null;
      this.selection.setAttribute("visibility", "hidden");
    };
    this.svg.addEventListener("pointerup", done);
    this.svg.addEventListener("pointercancel", done);
    this.svg.addEventListener("pointerleave", () => from === null && this.view.read(null));
    this.svg.addEventListener("dblclick", () => this.view.show(0, this.view.end));
    this.svg.addEventListener("blur", () => this.view.read(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const far = event.shiftKey ? 10 : 1;
    const {view} = this;
    const acts = {
      ArrowLeft: () => view.step(-far),
      ArrowRight: () => view.step(far),
      Home: () => view.read(view.start),
      End: () => view.read(view.stop - 1e-6),
      "+": () => view.zoom(0.5),
      "=": () => view.zoom(0.5),
      "-": () => view.zoom(2),
      Escape: () => (view.zoomed ? view.show(0, view.end) : view.read(null)),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in acts)) return;
    event.preventDefault();
    acts[event.key]();
    if (view.second !== null) view.spoken.textContent = this.said();
  }

  /** Say in words what the crosshair reads. */
  said() {
    return `second ${Math.floor(this.view.second)}, ${this.view.phase(this.view.second)}`;
  }

  /** Clear everything and set the size. */
  begin() {
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.svg.setAttribute("height", this.height);
    this.content.replaceChildren();
  }

  /** Draw the stretch of the faults, where phases begin, and the seconds. */
  backdrop(bottom) {
    for (const [name, start, end] of this.view.runs[0].phases) {
      const [left, right] = [Math.max(this.x(start), MARGIN.left), Math.min(this.x(end), this.width - MARGIN.right)];
      if (right <= left) continue;
      if (name === "fault") {
        this.content.append(
          make("svg:rect", {class: "faulty", x: left, y: MARGIN.top, width: right - left, height: bottom - MARGIN.top}));
      }
      if (start > this.view.start) {
        this.content.append(make("svg:line", {class: "border", x1: left, x2: left, y1: MARGIN.top, y2: bottom}));
      }
    }
    const room = this.width - MARGIN.left - MARGIN.right;
    for (const tick of ticks(this.view.start, this.view.stop, Math.min(10, room / 64))) {
      this.content.append(
        make("svg:text", {class: "tick across", x: this.x(tick), y: this.height - 7}, `${Number(tick.toFixed(3))} s`));
    }
  }

  follow() {
    const {second} = this.view;
    const seen = second !== null && second >= this.view.start && second <= this.view.stop;
    for (const one of [this.cross, this.moment]) one.setAttribute("visibility", seen ? "visible" : "hidden");
    if (!seen) {
      this.content.querySelectorAll(".tick.across").forEach((tick) => tick.setAttribute("visibility", "visible"));
      return;
    }
    const x = Math.min(this.x(Math.floor(second) + 0.5), this.width - MARGIN.right);
    for (const [key, value] of [["x1", x], ["x2", x], ["y1", MARGIN.top], ["y2", this.height - MARGIN.bottom]]) {
      this.cross.setAttribute(key, value);
    }
    this.moment.textContent = `${Math.floor(second)} s · ${this.view.phase(second)}`;
    const half = this.moment.textContent.length * 3.2 + 4;
    this.moment.setAttribute("x", Math.min(Math.max(x, half), this.width - half));
    this.moment.setAttribute("y", this.height - 7);
    for (const tick of this.content.querySelectorAll(".tick.across")) {
      tick.setAttribute("visibility", Math.abs(Number(tick.getAttribute("x")) - x) < half + 20 ? "hidden" : "visible");
    }
  }
}

/** One figure over time. */
class Plot extends Drawing {
  /** @param {View} view  @param {PlotData} data */
  constructor(view, data) {
    super(view, `${data.title}. Arrow keys move the crosshair, plus and minus zoom, Escape shows all.`);
    this.data = data;
    this.values = data.lines.map(() => make("b"));
    this.dots = data.lines.map((line) => make("svg:circle", {class: `dot c-${line.colour}`, r: 3.5, visibility: "hidden"}));
    this.svg.append(...this.dots);
  }

  /** Return the figure with its title, key and table. */
  build() {
    const keys = this.data.lines.map((line, at) =>
      make("span", {class: line.low ? "key banded" : "key"}, swatch(line), make("span", {}, line.title), this.values[at]));
    const figureBox = make("figure", {class: "plot"});
    figureBox.append(
      make("figcaption", {}, make("h4", {}, this.data.title), make("div", {class: "keys"}, ...keys)), dataTable(this.data));
    const place = make("div", {class: "place"});
    figureBox.insertBefore(place, figureBox.lastChild);
    this.attach(place);
    return figureBox;
  }

  /** Return the least and greatest value to show. */
  range() {
    let [low, high] = [Infinity, -Infinity];
    for (const line of this.data.lines) {
      for (const [values, pick] of [[line.low ?? line.mean, Math.min], [line.high ?? line.mean, Math.max]]) {
        for (const value of values) {
          if (value === null) continue;
          low = Math.min(low, pick(value, value));
          high = Math.max(high, value);
        }
      }
    }
    for (const [limit] of this.data.limits) [low, high] = [Math.min(low, limit), Math.max(high, limit)];
    if (low > high) return [0, 1];
    if (this.data.unit === "%" && low > 0.5 && high <= 1) {
      const room = Math.max(0.005, (1 - low) * 1.1);
      return [Math.max(0, 1 - room), 1];
    }
    if (low >= 0) low = 0;
    if (high === low) return [low, low + (this.data.unit === "%" ? 0.1 : 1)];
    return [low, this.data.unit === "%" && high <= 1 ? Math.min(1, high * 1.08) : high * 1.08];
  }

  draw() {
    this.begin();
    const bottom = this.height - MARGIN.bottom;
    this.backdrop(bottom);
    const [low, high] = this.range();
    this.y = (value) => bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top);
    for (const tick of ticks(low, high, 4)) {
      const y = this.y(tick);
      this.content.append(
        make("svg:line", {class: "grid", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y}),
        make("svg:text", {class: "tick up", x: MARGIN.left - 8, y: y + 4}, figure(tick, this.data.unit)));
    }
    // The control lies below, so that the experiment is never hidden by it.
    for (const line of [...this.data.lines].sort((one, other) => other.run - one.run)) this.line(line);
    for (const [limit, said] of this.data.limits) this.limit(limit, said, bottom);
    this.follow();
  }

  limit(limit, said, bottom) {
    const y = this.y(limit);
    // On the side where values break the rule: there is room as long as it holds.
    const above = said.startsWith("<") ? y > MARGIN.top + 16 : y > bottom - 16;
    this.content.append(
      make("svg:line", {class: "limit", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y}),
      make("svg:text", {class: "limit-said", x: this.width - MARGIN.right - 2, y: above ? y - 5 : y + 13}, said));
  }

  /** Draw one line, with the band of least and greatest values behind it where a point is more than a second. */
  line(line) {
    const first = Math.max(0, Math.floor(this.view.start / line.width) - 1);
    const last = Math.min(line.mean.length - 1, Math.ceil(this.view.stop / line.width));
    const x = (at) => Number(this.x((at + 0.5) * line.width).toFixed(1));
    const stretches = [];
    for (let at = first, open = null; at <= last; at += 1) {
      if (line.mean[at] === null) {
        open = null;
      } else if (open === null) {
        stretches.push(open = [at]);
      } else {
        open.push(at);
      }
    }
    const y = (value) => Number(this.y(value).toFixed(1));
    const kind = `c-${line.colour}${line.run === 1 ? " of-control" : ""}`;
    const clip = clipping(this);
    const path = stretches.map((one) => one.length > 1
      ? `M${one.map((at) => `${x(at)},${y(line.mean[at])}`).join("L")}`
      : `M${x(one[0]) - 1.5},${y(line.mean[one[0]])}h3`).join("");
    if (line.low && line.high) {
      const band = stretches.map((one) => {
        const above = one.map((at) => `${x(at)},${y(line.high[at])}`);
        const below = one.map((at) => `${x(at)},${y(line.low[at])}`).reverse();
        return `M${[...above, ...below].join("L")}Z`;
      }).join("");
      this.content.append(make("svg:path", {class: `band ${kind}`, d: band, "clip-path": clip}));
    }
    this.content.append(make("svg:path", {class: `line ${kind}`, d: path, "clip-path": clip}));
  }

  /** Return what a line reads at the crosshair: mean, least and greatest of its bucket. */
  reading(line) {
    const at = Math.floor(this.view.second / line.width);
    return {at, mean: line.mean[at] ?? null, low: line.low?.[at] ?? null, high: line.high?.[at] ?? null};
  }

  words(line) {
    const {mean, low, high} = this.reading(line);
    const said = figure(mean, this.data.unit);
    return low === null || low === high ? said : `${said} (${figure(low, this.data.unit)} to ${figure(high, this.data.unit)})`;
  }

  said() {
    return `${super.said()}: ${this.data.lines.map((line) => `${line.title} ${this.words(line)}`).join(", ")}`;
  }

  follow() {
    super.follow();
    const {second} = this.view;
    this.data.lines.forEach((line, at) => {
      this.values[at].textContent = second === null ? "" : this.words(line);
      const reading = second === null ? null : this.reading(line);
      const x = reading ? this.x((reading.at + 0.5) * line.width) : 0;
      const seen = reading && reading.mean !== null && this.y && x >= MARGIN.left && x <= this.width - MARGIN.right;
      this.dots[at].setAttribute("visibility", seen ? "visible" : "hidden");
      if (!seen) return;
      this.dots[at].setAttribute("cx", x);
      this.dots[at].setAttribute("cy", this.y(reading.mean));
    });
  }
}

/** Draw a short piece of a line, for the key. */
function swatch(line) {
  const kind = `line c-${line.colour}${line.run === 1 ? " of-control" : ""}`;
  return make("svg:svg", {class: "swatch", width: 22, height: 8, "aria-hidden": "true"}, make("svg:path", {class: kind, d: "M1,4H21"}));
}

let clips = 0;

/** Return a reference to a clip path of the plot's inside, made once for each drawing. */
function clipping(drawing) {
  if (!drawing.clip) {
    clips += 1;
    drawing.clip = make("svg:rect");
    drawing.clipName = `clip-${clips}`;
    drawing.svg.append(make("svg:clipPath", {id: drawing.clipName}, drawing.clip));
  }
  const size = {x: MARGIN.left, y: 0, width: Math.max(0, drawing.width - MARGIN.left - MARGIN.right), height: drawing.height};
  for (const [key, value] of Object.entries(size)) drawing.clip.setAttribute(key, value);
  return `url(#${drawing.clipName})`;
}
