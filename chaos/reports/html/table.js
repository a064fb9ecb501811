/* The values behind a plot, as a table. */

const TABLE_ROWS_MAX = 1100;

/**
 * Return a plot's values as a table, made when it is opened.
 *
 * @param {PlotData} data
 */
function dataTable({title, unit, lines}) {
  const box = make("details", {class: "data"}, make("summary", {}, "Data"));
  box.addEventListener("toggle", () => {
    if (!box.open || box.querySelector("table")) return;
    const end = Math.max(...lines.map((line) => line.mean.length * line.width));
    let step = Math.min(...lines.map((line) => line.width));
    while (end / step > TABLE_ROWS_MAX) step *= 2;  // as the width of a line is doubled, so that no bucket is cut in two
    const body = make("tbody");
    for (let from = 0; from < end; from += step) {
      const cells = lines.map((line) => make("td", {class: "number"}, figure(mean(line, from, from + step), unit)));
      body.append(make("tr", {}, make("th", {scope: "row"}, `${from} s`), ...cells));
    }
    const heads = ["from second", ...lines.map((line) => line.title)].map((one) => make("th", {scope: "col"}, one));
    const caption = make("caption", {class: "unseen"}, title);
    const made = make("table", {}, caption, make("thead", {}, make("tr", {}, ...heads)), body);
    if (step > 1) box.append(make("p", {class: "quiet"}, `Each row is the mean of ${step} s.`));
    box.append(make("div", {class: "scroll tall", tabindex: "0", role: "region", "aria-label": title}, made));
  });
  return box;
}

/** Return the mean of a line from one second to another; null where nothing was measured. */
function mean(line, from, to) {
  const buckets = line.mean.slice(Math.floor(from / line.width), Math.ceil(to / line.width));
  const known = buckets.filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}
