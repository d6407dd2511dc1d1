// Live numbers: every five seconds the page is fetched again, and its parts that are marked data-live are replaced. Nothing is
// replaced in which somebody is: a focused element, or an open table.
"use strict";
(() => {
  const box = document.getElementById("live");
  box.closest(".live").hidden = false;
  try { box.checked = sessionStorage.getItem("live") !== "off"; } catch { /* no storage: on */ }
  box.addEventListener("change", () => {
    try { sessionStorage.setItem("live", box.checked ? "on" : "off"); } catch { /* as long as the page is open */ }
  });
  const inUse = (part) => part.contains(document.activeElement) || part.querySelector("details[open]") !== null;
  const update = async () => {
    if (!box.checked || document.hidden) return;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store", redirect: "error" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const newer = fresh.getElementById(part.id);
      if (newer !== null && !inUse(part)) part.replaceChildren(...document.importNode(newer, true).childNodes);
    }
  };
  const again = async () => {
    try { await update(); } catch { /* the next attempt is in five seconds */ }
    setTimeout(again, 5000);
  };
  if (document.querySelector("form[method=post] input:not([type=hidden])") === null || document.querySelector("[data-live]")) {
    setTimeout(again, 5000);
  }
})();
