(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const find = (query) => document.querySelector(query);
  const all = (query) => [...document.querySelectorAll(query)];

  // The theme outlives a reload where the browser lets a local file keep anything.
  const theme = find("#theme");
  const wear = (name) => { if (name) root.dataset.theme = name; else delete root.dataset.theme; };
  const kept = (name) => {
    try {
      if (name === undefined) return localStorage.getItem("robollm-theme") || "";
      localStorage.setItem("robollm-theme", name);
    } catch { /* not allowed here */ }
    return "";
  };
  theme.value = kept();
  wear(theme.value);
  theme.addEventListener("change", () => { wear(theme.value); kept(theme.value); });

  const side = (element, name) => element.getBoundingClientRect()[name];
  // Where ours would be out of sight, as on a phone, a table begins at the best published model.
  for (const frame of all(".grid .scroll")) {
    const ours = frame.querySelector("th.ours");
    if (!ours || side(ours, "right") <= side(frame, "right")) continue;
    frame.scrollLeft = side(ours.previousElementSibling, "left") - side(frame.querySelector("tbody th.first"), "right");
  }

  const section = find("#filter-section");
  const outcome = find("#filter-outcome");
  const filter = () => {
    const fits = (element) => !section.value || element.dataset.section === section.value;
    const narrowed = section.value !== "" || outcome.value !== "";
    if (narrowed) for (const cards of all(".cards")) cards.classList.add("open");
    let shown = 0;
    const cards = all(".card");
    for (const card of cards) {
      card.hidden = !fits(card) || (outcome.value !== "" && card.dataset.outcome !== outcome.value);
      shown += card.hidden ? 0 : 1;
    }
    for (const part of all(".part")) {
      part.hidden = !fits(part);
      const none = part.querySelector(".none");
      if (none) none.hidden = part.querySelector(".card:not([hidden])") !== null;
    }
    for (const task of all(".task")) task.hidden = !task.querySelector(".part:not([hidden])");
    find("#shown").value = `${shown} of ${cards.length} samples`;
  };
  if (section) for (const one of [section, outcome]) one.addEventListener("change", filter);

  for (const button of all(".more")) {
    button.addEventListener("click", () => button.previousElementSibling.classList.add("open"));
  }

  for (const kind of ["truth", "found"]) {
    const boxes = all(`.toggle-${kind}`);
    for (const box of boxes) {
      box.addEventListener("change", () => {
        for (const other of boxes) other.checked = box.checked;
        root.classList.toggle(`hide-${kind}`, !box.checked);
      });
    }
  }

  const large = find("#large");
  for (const frame of all("button.frame")) {
    frame.addEventListener("click", () => {
      const place = large.querySelector(".frame");
      place.replaceChildren(...[...frame.children].map((child) => child.cloneNode(true)));
      place.style.aspectRatio = frame.style.aspectRatio;
      large.querySelector("p").textContent = frame.parentElement.querySelector("figcaption").textContent;
      large.showModal();
    });
  }
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
})();
