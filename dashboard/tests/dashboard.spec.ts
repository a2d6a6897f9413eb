// The page as a person meets it, on a server that is running: HOMEOSTAT_URL. Best during a quickstart; also holds
// after its replay has stopped.

import { expect, test, type Page } from "@playwright/test";
import type { ModelStatus } from "../src/api";

const MODEL = process.env.HOMEOSTAT_MODEL ?? "arrival";

/** Everything headline on the page, and the status it was drawn from, at one moment. */
async function look(page: Page) {
  return page.evaluate((model) => {
    const values: Record<string, string> = {};
    for (const element of document.querySelectorAll<HTMLElement>("[data-testid][data-value]")) {
      values[element.dataset.testid ?? ""] = element.dataset.value ?? "";
    }
    const last = window.__homeostat?.last?.find((m) => m.model === model);
    return { values, last, received: window.__homeostat?.received ?? 0 };
  }, MODEL);
}

async function ask(page: Page): Promise<ModelStatus> {
  const response = await page.request.get(`v1/models/${MODEL}`);
  expect(response.status()).toBe(200);
  return (await response.json()) as ModelStatus;
}

async function open(page: Page, hash = `#/models/${MODEL}`) {
  await page.goto(`/${hash}`);
  await expect(page.getByTestId("connection")).toHaveAttribute("data-value", "live");
  // A quickstart trains its first version before it answers anything.
  await expect(page.getByTestId("predictions")).toHaveAttribute("data-value", /^\d+$/, { timeout: 60_000 });
}

const text = (value: unknown) => (value == null ? "" : String(value));

test("shows what the server says, live", async ({ page }) => {
  await open(page);
  const before = await ask(page);
  const start = await look(page);
  // A status that was sent after `before` was answered.
  await expect.poll(async () => (await look(page)).received).toBeGreaterThan(start.received + 1);
  const { values, last } = await look(page);
  const after = await ask(page);
  if (!last) throw new Error(`the page received no status of ${MODEL}`);

  // Every headline equals the status that the page last received.
  const { traffic, latency_ms, accuracy, cost, replay, routing } = last;
  const expected: Record<string, unknown> = {
    predictions: traffic.predictions,
    rate: traffic.rate_per_second,
    outcomes: traffic.outcomes,
    "latency-p50": latency_ms?.p50,
    "latency-p99": latency_ms?.p99,
    "cost-per-correct": cost?.per_correct_prediction,
    "event-time": last.event_time,
  };
  for (const name of last.task === "binary" ? (["auc", "logloss"] as const) : (["rmse", "mae"] as const)) {
    const live = accuracy?.total?.live?.[name];
    const frozen = accuracy?.total?.frozen?.[name];
    expected[`${name}-live`] = live;
    if (live != null && frozen != null) {
      expected[`${name}-frozen`] = frozen;
      expected[`${name}-difference`] = live - frozen;
    }
  }
  if (replay) Object.assign(expected, { "replay-done": replay.done, "replay-total": replay.total });
  if (routing?.live) expected["live-version"] = routing.live.version;
  if (routing?.candidate) expected["candidate-version"] = routing.candidate.version;
  if (cost?.cpu_seconds != null) {
    Object.assign(expected, { "cpu-seconds": cost.cpu_seconds, cost: cost.cost, correct: cost.correct });
  }
  for (const [name, value] of Object.entries(expected)) expect(values[name], name).toBe(text(value));

  // And lies between what the server said just before and just after: equal, where the replay has stopped.
  const within = (name: string, of: (status: ModelStatus) => number | null | undefined) => {
    const shown = Number(values[name]);
    expect(shown, name).toBeGreaterThanOrEqual(of(before) ?? 0);
    expect(shown, name).toBeLessThanOrEqual(of(after) ?? 0);
  };
  within("predictions", (s) => s.traffic.predictions);
  within("outcomes", (s) => s.traffic.outcomes);
  if (before.replay && after.replay) within("replay-done", (s) => s.replay?.done);

  // While there is something left to replay, the numbers move by themselves.
  if (after.replay && after.replay.done < after.replay.total && (after.traffic.rate_per_second ?? 0) > 0) {
    await expect
      .poll(async () => Number((await look(page)).values.predictions), { timeout: 30_000 })
      .toBeGreaterThan(Number(values.predictions));
  }

  // What a person reads is the same number.
  const read = await page.evaluate(() => {
    const element = document.querySelector<HTMLElement>('[data-testid="predictions"]');
    return { text: element?.innerText, value: element?.dataset.value };
  });
  expect(read.text?.replaceAll(",", "")).toBe(read.value);
});

test("lists what the loop found and did", async ({ page }) => {
  await open(page);
  const findings = (await (await page.request.get("v1/findings")).json()) as { findings: { alarm: boolean; model: string }[] };
  const alarms = findings.findings.filter((f) => f.alarm && f.model === MODEL).length;
  if (alarms > 0) {
    await expect.poll(async () => Number((await look(page)).values.alarms)).toBeGreaterThanOrEqual(alarms);
  } else {
    await expect(page.locator("#alarms")).toContainText("No alarm");
  }
  await page.goto("/#/incidents");
  await expect(page.getByRole("heading", { level: 1, name: "Incidents" })).toBeVisible();
  if (alarms > 0) {
    await page.getByTestId("incidents").getByRole("link").first().click();
    await expect(page.getByTestId("incident-timeline").getByRole("listitem").first()).toBeVisible();
  }
  await page.goto("/#/incidents/none-of-this-name");
  await expect(page.getByRole("alert")).toContainText("there is no incident");
  await page.goto("/#/audit");
  await expect(page.getByRole("heading", { level: 1, name: "Audit" })).toBeVisible();
  await page.goto("/#/jobs");
  await expect(page.getByRole("heading", { level: 1, name: "Jobs" })).toBeVisible();
  await page.goto("/#/searches");
  await expect(page.getByRole("heading", { level: 1, name: "Searches" })).toBeVisible();
  await expect(page.getByTestId("searches")).toHaveAttribute("data-value", "1");
  await page.getByTestId("searches").getByRole("link").first().click();
  await expect(page.getByTestId("trials")).toHaveAttribute("data-value", "3");
  const plot = page.getByTestId("search-plot");
  await expect.poll(() => plot.evaluate((image: HTMLImageElement) => image.complete && image.naturalWidth)).toBeGreaterThan(0);
  await page.goto("/#/searches/none-of-this-name");
  await expect(page.getByRole("alert")).toContainText("there is no search");
  await page.goto("/#/nowhere/at/all");
  await expect(page.getByRole("link", { name: "Front page", exact: true })).toBeVisible();
});

test("can be used with the keyboard", async ({ page }) => {
  await open(page);
  await page.keyboard.press("Tab");
  await expect(page.getByRole("link", { name: "Skip to the content" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("#main")).toBeFocused();

  // Every link and button is reached by Tab, and shows that it is focused.
  const audit = page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Audit" });
  await page.locator("body").press("Home");
  await page.reload();
  await expect(page.getByTestId("predictions")).toHaveAttribute("data-value", /^\d+$/);
  for (let i = 0; i < 12 && !(await audit.evaluate((e) => e === document.activeElement)); i++) await page.keyboard.press("Tab");
  await expect(audit).toBeFocused();
  expect(await audit.evaluate((e) => getComputedStyle(e).outlineStyle)).not.toBe("none");
  await page.keyboard.press("Enter");
  await expect(page).toHaveURL(/#\/audit$/);

  // A section has an address and takes the focus there.
  await page.goto(`/#/models/${MODEL}/versions`);
  await expect(page.locator("#versions")).toBeFocused();
  await expect(page.locator("#versions")).toBeInViewport();

  // Arrow keys go from day to day in the charts.
  await page.goto(`/#/models/${MODEL}`);
  const charts = page.getByRole("group", { name: /Charts by day/ });
  if ((await charts.count()) > 0) {
    await charts.focus();
    await page.keyboard.press("Home");
    const first = await page.locator(".readout strong").innerText();
    await page.keyboard.press("ArrowRight");
    await expect(page.locator(".readout strong")).not.toHaveText(first);
  }
});

for (const width of [320, 390, 768, 1280]) {
  test(`fits a screen ${width} pixels wide`, async ({ page }) => {
    await page.setViewportSize({ width, height: 844 });
    for (const hash of [`#/models/${MODEL}`, "#/models", "#/alarms", "#/incidents", "#/audit", "#/jobs", "#/searches"]) {
      await page.goto(`/${hash}`);
      await expect(page.getByTestId("connection")).toHaveAttribute("data-value", "live");
      await expect(page.locator("main :is(h1, h2)").first()).toBeVisible();
      await page.waitForFunction(() => document.fonts.status === "loaded");
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      expect(wide, `${hash} scrolls sideways`).toBeLessThanOrEqual(0);
    }
  });
}

for (const scheme of ["light", "dark"] as const) {
  test(`says nothing to the console, ${scheme}`, async ({ page }) => {
    const said: string[] = [];
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") said.push(message.text());
    });
    page.on("pageerror", (error) => said.push(error.message));
    page.on("request", (request) => {
      const url = new URL(request.url());
      const home = new URL(test.info().project.use.baseURL ?? "http://127.0.0.1:8080");
      if (url.protocol.startsWith("http") && url.host !== home.host) said.push(`asked ${url.host}`);
    });
    await page.emulateMedia({ colorScheme: scheme });
    await open(page);
    for (const hash of ["#/models", "#/alarms", "#/incidents", "#/audit", "#/jobs", "#/searches", `#/models/${MODEL}/cost`]) {
      await page.goto(`/${hash}`);
      await expect(page.locator("main :is(h1, h2)").first()).toBeVisible();
    }
    await page.emulateMedia({ colorScheme: scheme === "light" ? "dark" : "light" });
    const { received } = await look(page);
    await expect.poll(async () => (await look(page)).received).toBeGreaterThan(received);
    expect(said).toEqual([]);
  });
}
