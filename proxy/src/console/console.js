// Fetches the page again and puts the new figures in the place of the old ones.
// Without it the page is whole, and as old as its last line says.
"use strict";

const INTERVAL_MS = 2000;
const pause = document.getElementById("pause");
let paused = false;
let renewals = 0;

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Resume" : "Pause";
});

async function refresh() {
  const stale = (is) => document.body.classList.toggle("stale", is);
  try {
    const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (answer.status === 401) {
      location.reload();
      return;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = page.getElementById("main");
    // Somebody who selects a figure wants to copy it.
    if (answer.ok && main && getSelection().isCollapsed) {
      document.getElementById("main").replaceChildren(...main.childNodes);
      // For tests/console/shot.sh.
      renewals += 1;
      document.body.dataset.renewals = renewals;
    }
    stale(!answer.ok);
  } catch {
    stale(true);
  }
}

async function forever() {
  if (!paused && document.visibilityState === "visible") {
    await refresh();
  }
  setTimeout(forever, INTERVAL_MS);
}

setTimeout(forever, INTERVAL_MS);
