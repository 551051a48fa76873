"use strict";
// Draws the curves, and fills the browsers of problems and completions, from the JSON in #data. Texts are set as textContent, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const print = matchMedia("print");
  const COLORS = {
    light: ["#0a58ca", "#b02a37", "#146c43", "#8a4b00", "#6f42c1", "#0b7285", "#a61e72", "#444c56"],
    dark: ["#79b8ff", "#ff938a", "#56d364", "#f0b35b", "#c9a6ff", "#56d4dd", "#ff9bd2", "#c9d1d9"],
  };
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
  const MOST_SHOWN = 6;
  const color = (index) => COLORS[dark.matches && !print.matches ? "dark" : "light"][index % 8];
  const dash = (index) => DASHES[(index + Math.floor(index / 8)) % 4];
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in element && name !== "list") element[name] = value; else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  const remembered = (id) => sessionStorage.getItem("r1exp " + location.pathname + id);
  const remember = (id, value) => { try { sessionStorage.setItem("r1exp " + location.pathname + id, value); } catch { /* a page from a file may have no storage */ } };

  // ---- Curves ----
  const several = data.settings.length > 1;
  const isShown = data.settings.map((_, index) => index < MOST_SHOWN);
  const plots = [];

  // Curves of members and of evaluations share a panel where there is one setting.
  function grouped() {
    if (several) return data.panels.map((panel) => ({ ...panel, curves: panel.curves.map((curve) => ({ ...curve, look: curve.setting, name: data.settings[curve.setting].code })) }));
    const groups = new Map();
    for (const panel of data.panels) {
      const family = panel.metric.startsWith("rewards/") && panel.metric.endsWith("/mean") ? "Score of each reward"
        : panel.metric.startsWith("eval/") ? "Accuracy during training" : panel.title;
      const key = family + "\n" + panel.step;
      if (!groups.has(key)) groups.set(key, { ...panel, title: family, metrics: [], curves: [] });
      const group = groups.get(key);
      const name = family === panel.title ? panel.title : panel.metric.split("/").slice(1, -1).join(" ");
      group.metrics.push(panel.metric);
      for (const curve of panel.curves) group.curves.push({ ...curve, look: group.curves.length, name });
    }
    return [...groups.values()];
  }

  function aligned(curves) {
    const steps = [...new Set(curves.flatMap((curve) => curve.x))].sort((a, b) => a - b);
    const place = new Map(steps.map((step, index) => [step, index]));
    const columns = [steps];
    for (const curve of curves) {
      for (const part of curve.low ? ["y", "low", "high"] : ["y"]) {
        const column = new Array(steps.length).fill(null);
        curve.x.forEach((step, index) => { column[place.get(step)] = curve[part][index]; });
        columns.push(column);
      }
    }
    return columns;
  }

  const short = (value) => value == null ? "–" : Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(1) : String(+value.toPrecision(4));

  function marksOf(panel, events) {
    return (plot) => {
      const ctx = plot.ctx;
      ctx.save();
      ctx.font = `${12 * devicePixelRatio}px sans-serif`;
      ctx.textAlign = "left";
      ctx.textBaseline = "middle";
      for (const event of events) {
        const left = plot.valToPos(event.at, "x", true);
        ctx.strokeStyle = ctx.fillStyle = style("--lost");
        ctx.setLineDash([2 * devicePixelRatio, 4 * devicePixelRatio]);
        ctx.beginPath();
        ctx.moveTo(left, plot.bbox.top);
        ctx.lineTo(left, plot.bbox.top + plot.bbox.height);
        ctx.stroke();
        ctx.beginPath();
        ctx.moveTo(left - 6 * devicePixelRatio, plot.bbox.top);
        ctx.lineTo(left + 6 * devicePixelRatio, plot.bbox.top);
        ctx.lineTo(left, plot.bbox.top + 9 * devicePixelRatio);
        ctx.fill();
      }
      if (panel.curves.length > 1) { // the letter of each curve at its end, so that nobody needs its color
        let used = [];
        panel.curves.forEach((curve) => {
          if (several && !isShown[curve.setting]) return;
          const last = curve.y.length - 1;
          let top = plot.valToPos(curve.y[last], "y", true);
          while (used.some((other) => Math.abs(other - top) < 12 * devicePixelRatio)) top += 12 * devicePixelRatio;
          used.push(top);
          const left = plot.valToPos(curve.x[last], "x", true);
          ctx.fillStyle = color(curve.look);
          ctx.fillText(curve.name.slice(0, 12), Math.min(left + 4 * devicePixelRatio, plot.width * devicePixelRatio - ctx.measureText(curve.name.slice(0, 12)).width - 4), top);
        });
      }
      ctx.restore();
    };
  }

  function draw(panel, holder) {
    const events = data.events.filter((event) => event.step === panel.step && isShown[event.setting]);
    const shown = panel.curves.filter((curve) => !several || isShown[curve.setting]);
    holder.replaceChildren();
    if (!shown.length) { holder.append(make("p", { className: "note", textContent: "No chosen setting has this curve." })); return null; }
    const columns = aligned(shown);
    const series = [{ label: "step" }];
    const bands = [];
    for (const curve of shown) {
      const line = { label: curve.name, stroke: color(curve.look), width: 2, dash: dash(curve.look), spanGaps: true, value: (_, value) => short(value),
        points: { show: columns[0].length <= 40, size: 5 } };
      series.push(line);
      if (curve.low) {
        const first = series.length;
        for (let part = 0; part < 2; part++) series.push({ label: part ? "highest" : "lowest", class: "band", stroke: "transparent", width: 0, spanGaps: true, points: { show: false }, value: (_, value) => short(value) });
        bands.push({ series: [first + 1, first], fill: color(curve.look) + "33" });
      }
    }
    const axis = { stroke: style("--quiet"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1 } };
    const room = panel.curves.length > 1 ? (several ? 26 : 80) : 12;
    return new uPlot({
      width: Math.max(holder.clientWidth, 200), height: 220, series, bands, padding: [12, room, 0, 0],
      scales: { x: { time: false }, y: { range: (_, low, high) => low == null ? [0, 1] : low === high ? [low - (Math.abs(low) / 10 || 1), high + (Math.abs(high) / 10 || 1)] : uPlot.rangeNum(low, high, 0.1, true) } },
      axes: [{ ...axis, space: 60, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5] }, { ...axis, size: 58, values: (_, ticks) => ticks.map(short) }],
      legend: { live: true }, cursor: { sync: { key: panel.step, setSeries: false }, drag: { x: true, y: false } },
      hooks: { draw: [marksOf({ ...panel, curves: shown }, events)] },
    }, columns, holder);
  }

  function describe(panel) {
    return panel.curves.map((curve) => `${curve.name}: from ${short(curve.y[0])} at step ${curve.x[0]} to ${short(curve.y[curve.y.length - 1])} at step ${curve.x[curve.x.length - 1]}`).slice(0, 12).join("; ");
  }

  function buildPanels() {
    const target = document.getElementById("panels");
    const panels = grouped();
    if (!panels.length) target.append(make("p", { textContent: "Nothing has been logged." }));
    const visible = "IntersectionObserver" in window ? new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { visible.unobserve(entry.target); redraw(plots.find((each) => each.holder === entry.target)); }
    }, { rootMargin: "300px" }) : null;
    for (const panel of panels) {
      const holder = make("div", { className: "plot", role: "img" });
      holder.setAttribute("aria-label", `${panel.title}, step ${panel.step}. ${describe(panel)}`);
      const caption = make("figcaption", {}, panel.title + " ", make("small", { textContent: `${panel.unit ? panel.unit + ", " : ""}step ${panel.step}` }));
      const figure = make("figure", {}, caption, holder);
      const metrics = panel.metrics || [panel.metric];
      for (const event of data.events.filter((each) => each.step === panel.step && metrics.includes(each.metric)).slice(0, 5)) {
        figure.append(make("p", { className: "note lost", textContent: `▼ step ${event.at}: ${event.sentence}` }));
      }
      target.append(figure);
      const entry = { panel, holder, plot: null, isDrawn: false };
      plots.push(entry);
      if (visible) visible.observe(holder); else redraw(entry);
    }
    document.documentElement.dataset.ready = "yes";
  }
  function redraw(entry) {
    if (entry.plot) entry.plot.destroy();
    entry.plot = draw(entry.panel, entry.holder);
    entry.isDrawn = true;
  }
  const redrawAll = () => plots.filter((entry) => entry.isDrawn).forEach(redraw);
  dark.addEventListener("change", redrawAll);
  addEventListener("beforeprint", () => plots.forEach(redraw));
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redrawAll(); } });

  function buildLegend() {
    const target = document.getElementById("legend");
    if (!several) return;
    target.hidden = false;
    const saved = remembered("legend");
    if (saved) saved.split(",").forEach((each, index) => { if (index < isShown.length) isShown[index] = each === "1"; });
    data.settings.forEach((setting, index) => {
      const box = make("input", { type: "checkbox", checked: isShown[index] });
      box.addEventListener("change", () => { isShown[index] = box.checked; remember("legend", isShown.map(Number).join(",")); redrawAll(); });
      const key = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      key.setAttribute("width", "40"); key.setAttribute("height", "8"); key.setAttribute("aria-hidden", "true");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [name, value] of Object.entries({ x1: 0, y1: 4, x2: 40, y2: 4, "stroke-width": 3, "stroke-dasharray": dash(index).join(" ") })) line.setAttribute(name, value);
      line.style.stroke = color(index);
      dark.addEventListener("change", () => { line.style.stroke = color(index); });
      key.append(line);
      target.append(make("label", {}, box, key, make("span", {}, make("b", { textContent: setting.code + " " }), setting.label)));
    });
    if (data.settings.length > MOST_SHOWN) target.append(make("p", { className: "note", textContent: `The best ${MOST_SHOWN} of ${data.settings.length} are shown first.` }));
  }

  // ---- Controls ----
  function choice(form, id, label, options, onChange) {
    const select = make("select", { id });
    for (const [value, text] of options) select.append(make("option", { value, textContent: text }));
    const saved = remembered(id);
    if (saved !== null && options.some(([value]) => String(value) === saved)) select.value = saved;
    select.addEventListener("change", () => { remember(id, select.value); onChange(); });
    form.append(make("label", {}, label, select));
    return select;
  }
  function search(form, id, label, onChange) {
    const input = make("input", { id, type: "search", value: remembered(id) || "" });
    input.addEventListener("input", () => { remember(id, input.value); onChange(); });
    form.append(make("label", {}, label, input));
    return input;
  }
  document.querySelectorAll("form").forEach((form) => form.addEventListener("submit", (event) => event.preventDefault()));
  const unique = (values) => [...new Set(values)];

  // ---- Problems won and lost ----
  function buildChanged() {
    const list = document.getElementById("changed-list");
    const form = document.getElementById("changed-controls");
    if (!data.changed.length) { list.append(make("p", { textContent: "No problem's outcome changed between two evaluations, or none were compared." })); return; }
    const names = data.changed.map((each, index) => [index, `${several || data.settings[0].runs.length > 1 ? "run " + each.run + ", " : ""}${each.comparison}, ${each.decoding}`]);
    const first = [...names].reverse();
    const more = document.getElementById("changed-more");
    let limit = 5;
    const restart = () => { limit = 5; show(); };
    const which = choice(form, "changed-which", "Comparison", first, restart);
    const outcome = choice(form, "changed-outcome", "Outcome", [["won", "won: wrong before, right after"], ["lost", "lost: right before, wrong after"]], restart);
    more.addEventListener("click", () => { limit += 10; show(); });
    function show() {
      const chosen = data.changed[+which.value][outcome.value];
      list.replaceChildren(make("p", { className: "note", textContent: `${chosen.number} problems ${outcome.value}; ${Math.min(limit, chosen.rows.length)} are shown${chosen.rows.length < chosen.number ? `, of ${chosen.rows.length} in this page, evenly spread` : ""}.` }));
      more.hidden = limit >= chosen.rows.length;
      for (const row of chosen.rows.slice(0, limit)) {
        const side = (name, answer) => make("div", {}, make("p", { className: answer.correct ? "won" : "lost", textContent: `${answer.correct ? "✓" : "✗"} ${name}: ${answer.read === null || answer.read === undefined ? "no answer" : "answered " + answer.read}` }), make("pre", { textContent: answer.text, tabIndex: 0 }));
        list.append(make("article", { className: "text" },
          make("p", {}, make("b", { textContent: row.problem }), row.prompt ? " " + row.prompt : ""),
          make("p", { className: "facts", textContent: `Right answer: ${row.gold}` }),
          make("div", { className: "pair" }, side("before", row.before), side("after", row.after))));
      }
    }
    show();
  }

  // ---- Completions ----
  function buildTexts() {
    const form = document.getElementById("texts-controls");
    const list = document.getElementById("texts-list");
    const more = document.getElementById("texts-more");
    const count = document.getElementById("texts-count");
    if (!data.texts.length) { count.textContent = "No completions were kept."; return; }
    const PAGE = 10;
    let limit = PAGE;
    const runs = unique(data.texts.map((row) => row.run));
    const restart = () => { limit = PAGE; show(); };
    const run = runs.length > 1 ? choice(form, "texts-run", "Run", [["", "all"], ...runs.map((each) => [each, each])], restart) : null;
    const step = choice(form, "texts-step", "Step", [["", "all"], ...unique(data.texts.map((row) => row.step)).map((each) => [each, each])], restart);
    const at = choice(form, "texts-at", "Optimizer step", [["", "all"], ...unique(data.texts.map((row) => row.at).filter((each) => each != null)).sort((a, b) => a - b).map((each) => [each, each])], restart);
    const order = choice(form, "texts-order", "Order", [["", "as they were sampled"], ["high", "highest reward first"], ["low", "lowest reward first"], ["long", "longest first"]], restart);
    const members = unique(data.texts.flatMap((row) => Object.keys(row.rewards || {})));
    const member = members.length ? choice(form, "texts-member", "Reward", [["", "total"], ...members.map((each) => [each, each])], restart) : null;
    const problem = search(form, "texts-problem", "Problem", restart);
    const words = search(form, "texts-words", "Text contains", restart);
    const score = (row) => { const value = member && member.value ? (row.rewards || {})[member.value] : row.reward; return value == null ? (row.correct == null ? -Infinity : Number(row.correct)) : value; };
    more.addEventListener("click", () => { limit += PAGE; show(); });
    function show() {
      const needle = words.value.toLowerCase();
      let rows = data.texts.filter((row) => (!run || !run.value || row.run === run.value) && (!step.value || row.step === step.value) && (!at.value || String(row.at) === at.value)
        && (!problem.value || `${row.problem} ${row.prompt || ""}`.toLowerCase().includes(problem.value.toLowerCase())) && (!needle || (row.text || "").toLowerCase().includes(needle)));
      if (order.value === "high") rows = [...rows].sort((a, b) => score(b) - score(a));
      if (order.value === "low") rows = [...rows].sort((a, b) => score(a) - score(b));
      if (order.value === "long") rows = [...rows].sort((a, b) => (b.tokens || 0) - (a.tokens || 0));
      count.textContent = `${rows.length.toLocaleString("en")} completions; ${Math.min(limit, rows.length)} are shown.`;
      list.replaceChildren(...rows.slice(0, limit).map(card));
      more.hidden = rows.length <= limit;
    }
    function card(row) {
      const facts = [runs.length > 1 ? `run ${row.run}` : null, row.step, row.at == null ? null : `optimizer step ${row.at}`, row.mode, row.tokens == null ? null : `${row.tokens} tokens`,
        row.cut ? "cut off" : null, row.reward == null ? null : `reward ${short(row.reward)}`, row.advantage == null ? null : `advantage ${short(row.advantage)}`,
        row.correct == null ? null : row.correct ? "✓ right" : "✗ wrong",
        ...Object.entries(row.rewards || {}).map(([name, value]) => `${name} ${value === null ? "abstained" : short(value)}`)];
      return make("article", { className: "text" },
        make("p", {}, make("b", { textContent: row.problem || "" }), row.prompt ? " " + row.prompt : ""),
        row.gold == null ? "" : make("p", { className: "facts", textContent: `Right answer: ${row.gold}` }),
        make("pre", { textContent: row.text || "", tabIndex: 0 }),
        make("p", { className: "facts", textContent: facts.filter(Boolean).join(" · ") }));
    }
    show();
  }

  // ---- Live ----
  function follow() {
    const known = document.getElementById("live-data");
    if (!known) return;
    const signature = JSON.parse(known.textContent);
    const status = document.getElementById("live");
    const ask = async () => {
      try {
        const answer = await fetch("signature", { cache: "no-store" });
        const isTyping = document.activeElement && document.activeElement.closest(".controls, fieldset");
        if (await answer.text() !== signature && !isTyping) { location.reload(); return; }
        status.textContent = "live";
      } catch { status.textContent = "the server has ended"; }
      setTimeout(ask, 2000);
    };
    setTimeout(ask, 2000);
  }

  buildLegend();
  buildPanels();
  // The texts are below the first screen: they come after the first paint.
  requestAnimationFrame(() => setTimeout(() => { buildChanged(); buildTexts(); document.documentElement.dataset.complete = "yes"; }));
  follow();
})();
