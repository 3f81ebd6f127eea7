"use strict";
(() => {
  const { rows: table, charts, themes } = JSON.parse(document.getElementById("data").textContent);
  const PAGE_ROWS = 50;
  const MOST_CHOICES = 40;
  const MOST_DETAILS = 6;
  const NARROW_PX = 640;
  const OP_ID = /^[0-9a-f]{20}$/;
  const byId = (id) => document.getElementById(id);
  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  // Columns come as plain lists, or as the distinct texts and each row's place among them.
  const columns = new Map(table.columns.map((column) => [column.name, column]));
  const values = new Map(
    Object.entries(table.values).map(([name, stored]) => [
      name,
      Array.isArray(stored) ? stored : stored.codes.map((code) => stored.values[code]),
    ]),
  );
  const shown = table.columns.filter((column) => column.in_table);
  const at = (name, row) => values.get(name)[row];

  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
  const written = {
    text: (value) => value,
    number: (value) => String(Number(value.toPrecision(4))),
    percent: (value) => `${(100 * value).toFixed(2)}%`,
    ratio: (value) => `${value.toFixed(3)}×`,
    count: (value) => compact.format(value).replace("B", "G"),
  };
  const cell = (column, row) => {
    const value = at(column.name, row);
    return value === null ? "–" : written[column.form](value);
  };

  // Filter and sort
  const state = { words: [], choices: new Map(), sort: null, descending: false, page: 0, chosen: null };
  const texts = table.columns.filter((column) => column.form === "text").map((column) => values.get(column.name));
  const searchable = Array.from({ length: table.rows }, (_, row) =>
    texts.map((column) => column[row] ?? "").join("\n").toLowerCase(),
  );
  const collator = new Intl.Collator("en", { numeric: true });
  let found = [];

  const find = () => {
    found = [];
    for (let row = 0; row < table.rows; row += 1) {
      const chosen = [...state.choices].every(([name, value]) => at(name, row) === value);
      if (chosen && state.words.every((word) => searchable[row].includes(word))) found.push(row);
    }
    if (state.sort === null) return;
    const column = values.get(state.sort);
    const compare =
      columns.get(state.sort).form === "text" ? collator.compare : (first, second) => first - second;
    const sign = state.descending ? -1 : 1;
    found.sort((first, second) => {
      const [a, b] = [column[first], column[second]];
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * compare(a, b);
    });
  };

  // The table of rows
  const draw = () => {
    const pages = Math.max(1, Math.ceil(found.length / PAGE_ROWS));
    state.page = Math.min(state.page, pages - 1);
    const first = state.page * PAGE_ROWS;
    const body = document.createDocumentFragment();
    for (const row of found.slice(first, first + PAGE_ROWS)) {
      const line = make("tr");
      if (at("op_id", row) === state.chosen) {
        line.className = "chosen";
        line.setAttribute("aria-current", "true");
      }
      for (const column of shown) {
        if (column.name === "label") {
          const heading = make("th", undefined, { scope: "row" });
          heading.append(make("a", cell(column, row), { href: `#${at("op_id", row)}` }));
          line.append(heading);
        } else {
          line.append(make("td", cell(column, row), column.form === "text" ? {} : { class: "figure" }));
        }
      }
      body.append(line);
    }
    byId("row-table").tBodies[0].replaceChildren(body);
    const last = Math.min(first + PAGE_ROWS, found.length);
    const all = table.rows.toLocaleString("en");
    byId("row-count").textContent =
      found.length === 0
        ? `No row of ${all} fits`
        : `Rows ${first + 1} to ${last} of ${found.length.toLocaleString("en")}` +
          (found.length < table.rows ? `, ${all} in all` : "");
    byId("page-of").textContent = `Page ${state.page + 1} of ${pages}`;
    byId("previous").disabled = state.page === 0;
    byId("next").disabled = state.page === pages - 1;
    byId("pages").hidden = pages === 1;
  };
  const refresh = () => {
    state.page = 0;
    find();
    draw();
  };

  const drawHeadings = () => {
    const line = make("tr");
    for (const column of shown) {
      const heading = make("th", undefined, { scope: "col" });
      if (column.form !== "text") heading.className = "figure";
      if (state.sort === column.name) {
        heading.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      }
      const button = make("button", column.title, { type: "button" });
      button.addEventListener("click", () => {
        state.descending = state.sort === column.name && !state.descending;
        state.sort = column.name;
        drawHeadings();
        refresh();
        byId("row-table").tHead.querySelectorAll("button")[shown.indexOf(column)].focus();
      });
      heading.append(button);
      line.append(heading);
    }
    byId("row-table").tHead.replaceChildren(line);
  };

  const drawFilters = () => {
    for (const column of shown) {
      if (column.form !== "text" || column.name === "label") continue;
      const distinct = [...new Set(values.get(column.name))].filter((value) => value !== null);
      if (distinct.length < 2 || distinct.length > MOST_CHOICES) continue;
      const field = make("span", undefined, { class: "field" });
      const select = make("select", undefined, { id: `filter-${column.name}` });
      select.append(make("option", "all", { value: "" }));
      distinct.sort(collator.compare);
      distinct.forEach((value, place) => select.append(make("option", value, { value: String(place + 1) })));
      select.addEventListener("change", () => {
        if (select.value === "") state.choices.delete(column.name);
        else state.choices.set(column.name, distinct[Number(select.value) - 1]);
        refresh();
      });
      field.append(make("label", column.title, { for: select.id }), select);
      byId("filters").append(field);
    }
  };

  // One op, linked to by its id: all that is known of its rows
  const detail = byId("row-detail");
  const full = (column, row) => {
    const value = at(column.name, row);
    if (value !== null && column.form === "count") return value.toLocaleString("en");
    return cell(column, row);
  };
  const showOp = (opId) => {
    state.chosen = null;
    detail.hidden = true;
    detail.replaceChildren();
    if (!OP_ID.test(opId)) return draw();
    const ids = values.get("op_id");
    const rows = ids.flatMap((id, row) => (id === opId ? [row] : []));
    const title = rows.length ? at("label", rows[0]) : "This row is not on this page";
    const heading = make("h3", title, { id: "row-detail-title", tabindex: "-1" });
    detail.append(heading);
    if (rows.length) {
      const told = make("table");
      told.append(make("caption", "All that the page has of this op", { class: "hidden" }));
      const body = told.createTBody();
      for (const column of table.columns) {
        const known = column.name === "label" ? title : null;
        if (rows.every((row) => at(column.name, row) === known)) continue;
        const line = make("tr");
        line.append(make("th", column.title, { scope: "row" }));
        for (const row of rows.slice(0, MOST_DETAILS)) line.append(make("td", full(column, row)));
        body.append(line);
      }
      const region = make("div", undefined, { class: "scroll", role: "group", tabindex: "0", "aria-label": title });
      region.append(told);
      detail.append(region);
      if (rows.length > MOST_DETAILS) detail.append(make("p", `${MOST_DETAILS} of ${rows.length} rows of this op`));
      const place = found.findIndex((row) => at("op_id", row) === opId);
      if (place >= 0) state.page = Math.floor(place / PAGE_ROWS);
      state.chosen = opId;
    }
    const close = make("button", "Close", { type: "button" });
    close.addEventListener("click", () => {
      history.replaceState(null, "", "#rows");
      showOp("");
      byId("search").focus();
    });
    detail.append(close);
    detail.hidden = false;
    draw();
    detail.scrollIntoView({ block: "start" });
    heading.focus({ preventScroll: true });
  };
  const follow = () => showOp(decodeURIComponent(location.hash.slice(1)));

  // Charts
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const drawCharts = async () => {
    const theme = dark.matches ? themes.dark : themes.light;
    const narrow = innerWidth < NARROW_PX;
    for (const { key, spec } of charts) {
      const place = document.querySelector(`[data-chart="${key}"]`);
      const sized = { ...spec, width: "container", autosize: { type: "fit-x", contains: "padding" } };
      const { view } = await window.vegaEmbed(place, sized, {
        mode: "vega-lite",
        renderer: "svg",
        actions: false,
        ast: true,
        defaultStyle: false,
        config: { ...theme, legend: { ...theme.legend, columns: narrow ? 2 : 4, labelLimit: narrow ? 130 : 260 } },
        tooltip: { disableDefaultStyle: true },
      });
      view.addEventListener("click", (_, item) => {
        if (item && item.datum && item.datum.op_id) location.hash = item.datum.op_id;
      });
    }
    document.documentElement.dataset.charts = "drawn";
  };

  drawHeadings();
  drawFilters();
  refresh();
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("search").addEventListener("input", (event) => {
    state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    refresh();
  });
  const turn = (step) => () => {
    state.page += step;
    draw();
  };
  byId("previous").addEventListener("click", turn(-1));
  byId("next").addEventListener("click", turn(1));
  window.addEventListener("hashchange", follow);
  if (location.hash) follow();
  // The rows are painted first.
  requestAnimationFrame(() => setTimeout(drawCharts));
  dark.addEventListener("change", drawCharts);
})();
