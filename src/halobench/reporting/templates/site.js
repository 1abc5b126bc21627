"use strict";

const isDark = () => {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

(() => {
  const { classList, dataset } = document.documentElement;
  // In a frame of Snakemake's report, which is light, links to other files lead nowhere.
  if (window.self !== window.top) {
    classList.add("framed");
    dataset.theme = "light";
  }
  let kept = {};
  try {
    kept = window.localStorage;
  } catch { /* a page within another has none */ }
  const name = "halobench-theme";
  if (["light", "dark"].includes(kept[name])) dataset.theme = kept[name];

  addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector(".site button");
    const changed = () => {
      button.textContent = isDark() ? "Light" : "Dark";
      dispatchEvent(new Event("theme"));
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      kept[name] = dataset.theme = isDark() ? "light" : "dark";
      changed();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
    changed();
  });
})();
