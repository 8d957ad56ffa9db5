"use strict";
for (const controls of document.querySelectorAll(".controls")) controls.hidden = false;

const telling = [...document.querySelectorAll("#rows .row")];
const buttons = [...document.querySelectorAll("#rows button")];
const search = document.getElementById("search");
const shown = document.getElementById("shown");

function filter() {
  const tags = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.tag);
  const wanted = search.value.trim().toLowerCase();
  let count = 0;
  for (const row of telling) {
    const has = row.dataset.tags.split("|");
    row.hidden = !(tags.every((tag) => has.includes(tag)) && row.textContent.toLowerCase().includes(wanted));
    count += !row.hidden;
  }
  shown.textContent = `${count} of ${telling.length} are shown.`;
}
for (const button of buttons) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    filter();
  });
}
search.addEventListener("input", filter);

for (const input of document.querySelectorAll("input[data-filters]")) {
  const items = [...document.querySelectorAll(input.dataset.filters)];
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const item of items) item.hidden = !item.dataset.name.toLowerCase().includes(wanted);
  });
}

const curve = JSON.parse(document.getElementById("curve").textContent);
const slider = document.getElementById("slider");
const answer = document.getElementById("answered");
function slide() {
  const [share, threshold, accuracy] = curve[100 - Number(slider.value)];
  answer.textContent = `If you answer where the probability is at least ${threshold}, ` +
    `${share.toFixed(1)} % are answered, and ${accuracy.toFixed(1)} % of these answers are right.`;
}
slider.addEventListener("input", slide);
slide();

function follow() {
  const named = document.getElementById(location.hash.slice(1));
  if (!named) return;
  named.hidden = false;
  const fold = named.closest("details");
  if (fold) fold.hidden = !(fold.open = true);
  named.scrollIntoView();
}
addEventListener("hashchange", follow);
follow();
