"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const made = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // Sorting: what has no number comes last, in either direction.
  const key = (cell) => cell?.dataset.sort ?? cell?.textContent.trim() ?? "";
  const compare = (a, b, sign) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [Number(a), Number(b)];
    return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y);
  };
  for (const table of all("table.sortable")) {
    const rows = table.classList.contains("rows");
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = made("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const units = rows ? [...table.tBodies[0].rows] : [...table.tBodies];
        const cell = (unit) => (rows ? unit : unit.rows[0]).cells[column];
        const sorted = units.map((unit) => [key(cell(unit)), unit]).sort((a, b) => compare(a[0], b[0], sign));
        (rows ? table.tBodies[0] : table).append(...sorted.map(([, unit]) => unit));
      });
    });
  }

  // Filtering: a section's judgements by what they are about and by any text in them.
  const names = { paper: "paper", study: "study", outcome: "outcome", verdict: "verdict", size: "size of our runs" };
  const setters = {};
  for (const section of all("section.filtered")) {
    const judgements = all("tbody[data-outcome]", section);
    const selects = {};
    const form = made("form", { className: "filters" });
    for (const [name, label] of Object.entries(names)) {
      const values = [...new Set(judgements.map((one) => one.dataset[name]))];
      const select = made("select", { name }, made("option", { value: "", textContent: "all" }));
      select.append(...values.map((value) => made("option", { value, textContent: value })));
      selects[name] = select;
      if (values.length > 1) form.append(made("label", {}, label, select));
    }
    const text = made("input", { type: "search", name: "text" });
    const count = made("output", { name: "shown" });
    form.append(made("label", {}, "text", text), made("button", { type: "reset", textContent: "Show all" }), count);
    const apply = () => {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      const active = Object.entries(selects).filter(([, select]) => select.value);
      let shown = 0;
      for (const one of judgements) {
        const content = words.length ? one.textContent.toLowerCase() : "";
        one.hidden = !active.every(([name, select]) => one.dataset[name] === select.value) || !words.every((word) => content.includes(word));
        shown += !one.hidden;
      }
      for (const block of all(".block", section)) {
        block.hidden = !block.querySelector("tbody[data-outcome]:not([hidden])");
        if (active.length || words.length) block.querySelector("details").open = true;
      }
      count.value = `${shown} of ${judgements.length} shown`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(apply));
    section.querySelector(".scroll, .block").before(form);
    setters[`#${section.id}`] = (given) => {
      form.reset();
      for (const [name, select] of Object.entries(selects)) select.value = given.get(name) ?? "";
      apply();
    };
    apply();
  }
  for (const link of all("a[data-filter]")) {
    link.addEventListener("click", () => setters[link.getAttribute("href")]?.(new URLSearchParams(link.dataset.filter)));
  }

  // What a link leads to is made visible: folds around it are opened, filters that hide it are taken back.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest("[hidden]")) setters[`#${target.closest(".filtered").id}`](new URLSearchParams());
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Paper cannot be unfolded: what is not a long raw table is printed open.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not(.raw):not([open])");
    closed.forEach((fold) => (fold.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((fold) => (fold.open = false)));
})();
