// Keeps the status page up to date: the daemon sends the content of those elements that have changed.
"use strict";

const connection = document.getElementById("connection");
const SILENCE_MS = 40000; // the daemon says something every 15 s
const AGAIN_MS = 5000;
let ahead = Number(document.body.dataset.at) * 1000 - Date.now(); // of the daemon's clock
let layout = document.body.dataset.layout; // which parts there are
let heard = Date.now();
let source = null;

function duration(seconds) {
  for (const [unit, size, part, partSize] of [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]]) {
    if (seconds >= size) {
      const rest = Math.floor((seconds % size) / partSize);
      return Math.floor(seconds / size) + " " + unit + (rest ? " " + rest + " " + part : "");
    }
  }
  return seconds + " s";
}

function age(seconds) {
  if (seconds < -1) return "in " + duration(Math.floor(-seconds));
  return seconds < 2 ? "just now" : duration(Math.floor(seconds)) + " ago";
}

function tellAges() {
  const now = (Date.now() + ahead) / 1000;
  for (const time of document.querySelectorAll("time[data-at]")) {
    const told = age(now - Number(time.dataset.at));
    const shown = time.firstElementChild;
    if (shown.textContent !== told) shown.textContent = told;
  }
}

function say(told, isLost) {
  connection.classList.toggle("lost", isLost);
  if (connection.textContent !== told) connection.textContent = told;
}

// What is on the page has changed, not only how it is: take the page itself anew.
async function takeWhole() {
  const answer = await fetch("./", { cache: "no-store" });
  if (!answer.ok) return;
  const whole = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["overall", "live", "pause-target"]) {
    const [old, now] = [document.getElementById(id), whole.getElementById(id)];
    if (old && now) old.replaceChildren(...now.childNodes);
  }
  tellAges();
}

function take(event) {
  heard = Date.now();
  const told = JSON.parse(event.data);
  ahead = told.at * 1000 - Date.now();
  say("Live", false);
  if (layout !== told.layout) {
    layout = told.layout;
    takeWhole();
    return;
  }
  for (const [id, html] of Object.entries(told.parts)) document.getElementById(id).innerHTML = html;
  tellAges();
}

function follow() {
  heard = Date.now();
  source = new EventSource("events?since=" + encodeURIComponent(document.body.dataset.version));
  source.addEventListener("status", take);
  source.addEventListener("alive", () => { heard = Date.now(); });
  source.onerror = () => {
    say("Not live: the connection is lost. Trying again.", true);
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, AGAIN_MS); // it was refused
  };
}

setInterval(() => {
  tellAges();
  if (source.readyState !== EventSource.CLOSED && Date.now() - heard > SILENCE_MS) {
    say("Not live: the daemon says nothing. Trying again.", true);
    source.close();
    follow();
  }
}, 1000);
tellAges();
follow();
