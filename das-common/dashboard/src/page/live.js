"use strict";
(() => {
  const line = document.getElementById("live");
  const clock = () => new Date().toISOString().slice(11, 19) + " UTC";
  let heard = 0;

  const put = (id, inner) => {
    const section = document.getElementById(id);
    if (!section) return;
    const open = [...section.querySelectorAll("details[open][id]")].map((details) => details.id);
    const across = [...section.querySelectorAll(".wide")].map((wide) => wide.scrollLeft);
    const focused = section.contains(document.activeElement) ? document.activeElement.id : "";
    section.innerHTML = inner;
    for (const name of open) document.getElementById(name)?.setAttribute("open", "");
    section.querySelectorAll(".wide").forEach((wide, n) => { wide.scrollLeft = across[n] ?? 0; });
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  };

  const listen = () => {
    const source = new EventSource("events?range=" + document.body.dataset.range);
    source.onmessage = (event) => {
      const news = JSON.parse(event.data);
      document.title = news.title;
      for (const [id, inner] of Object.entries(news.sections)) put(id, inner);
      heard = Date.now();
      line.textContent = "Live, as of " + clock() + ".";
      line.className = "quiet";
    };
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    };
  };

  setInterval(() => {
    if (heard && Date.now() - heard > 7000) {
      line.textContent = "No news from the server since " + new Date(heard).toISOString().slice(11, 19) + " UTC. What is shown is of then.";
      line.className = "stale";
    }
  }, 1000);
  listen();
})();
