// Looks at a page as a person would, and says what it saw: one JSON object a line on standard output.
//
//   node browser.mjs URL FOLDER
//
// Orders come on standard input, a JSON array a line: ["goto", PATH], ["wait", SELECTOR, TEXT], ["gone", SELECTOR, TEXT],
// ["title"], ["size", WIDTH, HEIGHT], ["scheme", "light" | "dark"], ["shot", NAME], ["keys", KEY...], ["focus"],
// ["tree"], ["overflow"], ["faults"], ["end"]. Each is answered by {"ok": VALUE} or {"error": TEXT}.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { join } from "node:path";

const { chromium } = createRequire(join(process.env.DAS_BROWSER_DIR, "package.json"))("playwright-core");
const [url, folder] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.DAS_CHROMIUM ?? "/usr/bin/chromium",
  // In a container the browser's own sandbox cannot be set up; the page is ours.
  args: ["--no-sandbox", "--disable-gpu", "--font-render-hinting=none"],
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
const page = await context.newPage();
const faults = [];
const foreign = [];
page.on("console", (message) => { if (["error", "warning"].includes(message.type())) faults.push(message.text()); });
page.on("pageerror", (error) => faults.push(String(error)));
page.on("request", (request) => {
  const asked = request.url();
  if (!asked.startsWith(url) && !asked.startsWith("data:")) foreign.push(asked);
});

const has = (selector, text) =>
  page.locator(selector).filter({ hasText: new RegExp(text) });

const orders = {
  goto: async (path) => { await page.goto(url + path, { waitUntil: "load" }); await page.bringToFront(); },
  wait: async (selector, text) => {
    const began = Date.now();
    await has(selector, text).first().waitFor({ state: "visible", timeout: 60000 });
    return Date.now() - began;
  },
  gone: async (selector, text) => { await has(selector, text).first().waitFor({ state: "detached", timeout: 60000 }); },
  title: () => page.title(),
  size: (width, height) => page.setViewportSize({ width, height }),
  scheme: (colorScheme) => page.emulateMedia({ colorScheme }),
  shot: (name) => page.screenshot({ path: join(folder, name + ".png"), fullPage: true }).then(() => name),
  keys: async (...keys) => { for (const key of keys) await page.keyboard.press(key); },
  focus: () => page.evaluate(() => {
    const at = document.activeElement;
    return { name: at.tagName.toLowerCase(), text: (at.innerText || at.getAttribute("aria-label") || "").slice(0, 80), seen: at.matches(":focus-visible") };
  }),
  tree: () => page.locator("body").ariaSnapshot(),
  overflow: () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
  faults: () => ({ faults, foreign }),
};

const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
say({ ok: "ready" });
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  if (name === "end") break;
  try {
    say({ ok: (await orders[name](...given)) ?? null });
  } catch (error) {
    say({ error: String(error).slice(0, 2000) });
  }
}
await browser.close();
