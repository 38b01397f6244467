"use strict";
// Before the first paint: the theme that was chosen last, else the one of the system.
(function () {
  var chosen = null;
  try { chosen = window.localStorage.getItem("qprof-theme"); } catch (error) { chosen = null; }
  var dark = window.matchMedia && window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = chosen === "dark" || chosen === "light" ? chosen : dark ? "dark" : "light";
})();
