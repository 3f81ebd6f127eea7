"""A report as its reader meets it: in a real browser, from a file, with the network forbidden."""

import re

import pytest

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
DRAWN = "html[data-charts=drawn]"


class Reader:
    """A browser window on a page, with all that it said and asked for."""

    def __init__(self, browser, size=DESKTOP, **options):
        self.window = browser.new_page(viewport=size, **options)
        self.messages, self.requests, self.refused = [], [], []
        self.window.on("console", lambda message: self.messages.append(message.text))
        self.window.on("pageerror", lambda error: self.messages.append(str(error)))
        self.window.on("request", lambda request: self.requests.append(request.url))
        self.window.on(
            "requestfailed", lambda request: self.refused.append((request.url, request.failure))
        )

    def open(self, path, fragment=""):
        self.window.goto(f"{path.as_uri()}{fragment}")
        self.window.wait_for_selector(DRAWN, state="attached")
        return self.window

    def column(self, number):
        """Texts of a column of the rows that are shown."""
        return self.window.locator(f"#row-table tbody tr > :nth-child({number})").all_inner_texts()

    def heading(self, title):
        return self.window.locator("#row-table thead button", has_text=title).first


@pytest.fixture
def reader(chromium):
    """Opens windows; all are closed at the end."""
    opened = []

    def opens(**options):
        opened.append(Reader(chromium, **options))
        return opened[-1]

    yield opens
    for one in opened:
        one.window.close()


@pytest.mark.parametrize("name", ["one", "two", "large"])
def test_page_opens_from_a_file_says_nothing_and_asks_for_nothing(reader, pages, name):
    one = reader()
    path = getattr(pages, name)
    window = one.open(path)
    assert one.messages == []
    assert one.requests == [path.as_uri()]
    plots = window.locator(".plot")
    assert plots.count() == window.locator(".plot svg").count() > 0
    for plot in plots.all():
        assert plot.get_attribute("role") == "graphics-document"
        assert len(plot.get_attribute("aria-label")) > 40


def test_policy_forbids_the_network_to_whatever_gets_in(reader, pages):
    one = reader()
    window = one.open(pages.two)
    tried = """async () => {
      const image = new Image();
      const seen = new Promise((resolve) => {
        image.onload = image.onerror = (event) => resolve(event.type);
      });
      image.src = "http://127.0.0.1:9/x.png";
      const fetched = await fetch("http://127.0.0.1:9/").then(() => "fetched", () => "refused");
      const script = document.createElement("script");
      script.textContent = "document.title = 'owned'";
      document.body.append(script);
      return [await seen, fetched, document.title];
    }"""
    image, fetched, title = window.evaluate(tried)
    assert (image, fetched) == ("error", "refused")
    assert title == "monday.parquet and friday.parquet: latency table"
    assert one.refused == [("http://127.0.0.1:9/x.png", "csp")]
    assert one.requests == [pages.two.as_uri(), "http://127.0.0.1:9/x.png"]
    assert len(one.messages) >= 3
    assert all("Content Security Policy" in message for message in one.messages)


def test_names_that_are_html_are_read_as_text(reader, pages, hostile_texts):
    one = reader()
    window = one.open(pages.two)
    assert window.title() == "monday.parquet and friday.parquet: latency table"
    environment = window.inner_text("#environment")
    assert hostile_texts.device.replace("\u202e", "\\u202e") in environment
    assert "\u202e" not in window.inner_text("body")
    assert hostile_texts.licence in window.inner_text("#quality")
    window.fill("#search", "onerror failed")
    assert one.column(1) == [hostile_texts.label]
    window.locator("#row-table tbody a").click()
    window.wait_for_selector("#row-detail-title:focus")
    assert hostile_texts.label in window.inner_text("#row-detail")
    assert hostile_texts.reason in window.inner_text("#row-detail")
    assert window.locator("img, body style, [onclick], [onerror], a[href^=javascript]").count() == 0
    assert window.title() == "monday.parquet and friday.parquet: latency table"


def test_tooltip_of_a_hostile_op_is_text(reader, pages, hostile_texts):
    one = reader()
    window = one.open(pages.two)
    window.locator("[data-chart=heatmap-1] .mark-text text", has_text=re.compile("^×$")).hover()
    tooltip = window.locator("#vg-tooltip-element.visible")
    assert hostile_texts.label in tooltip.inner_text()
    assert tooltip.locator("img, a").count() == 0


def test_typing_in_the_filter_leaves_the_rows_that_fit(reader, pages):
    one = reader()
    window = one.open(pages.one)
    everything = window.inner_text("#row-count")
    window.fill("#search", "MBCONV k5")
    shown = one.column(1)
    assert shown
    assert all("mbconv" in label and "k5" in label for label in shown)
    assert window.inner_text("#row-count").startswith(f"Rows 1 to {len(shown)} of {len(shown)}, ")
    window.fill("#search", "no such op")
    assert one.column(1) == []
    assert window.inner_text("#row-count").startswith("No row of ")
    window.fill("#search", "")
    assert window.inner_text("#row-count") == everything


def test_choosing_a_kind_leaves_its_rows(reader, pages):
    one = reader()
    window = one.open(pages.one)
    window.select_option("#filter-granularity", label="network")
    assert one.column(1)
    assert all(label.startswith("network_") for label in one.column(1))
    window.select_option("#filter-granularity", label="all")
    assert not all(label.startswith("network_") for label in one.column(1))


def test_a_click_on_a_heading_sorts_and_says_so(reader, pages):
    one = reader()
    window = one.open(pages.one)
    one.heading("latency").click()
    up = [float(text) for text in one.column(2)]
    assert up == sorted(up)
    assert window.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    one.heading("latency").click()
    down = [float(text) for text in one.column(2)]
    assert down == sorted(down, reverse=True) != up
    assert window.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert window.locator("th[aria-sort]").inner_text().startswith("latency")


def test_rows_without_a_number_are_last_whichever_way_one_sorts(reader, pages):
    one = reader()
    window = one.open(pages.two)
    window.select_option("#filter-granularity", label="op")
    for _ in range(2):
        one.heading("latency").click()
        assert one.column(3).index("–") == len(one.column(3)) - 1


def test_a_link_leads_to_its_row_and_back(reader, pages):
    one = reader()
    window = one.open(pages.two)
    link = window.locator("#surprises a").first
    label = link.inner_text()
    op_id = link.get_attribute("href").removeprefix("#")
    link.click()
    assert window.inner_text("#row-detail-title") == label
    window.wait_for_selector("#row-detail-title:focus")
    assert op_id in window.inner_text("#row-detail")
    chosen = window.locator("tr[aria-current]")
    assert {text.split("\n")[0].split("\t")[0] for text in chosen.all_inner_texts()} == {label}
    window.get_by_role("button", name="Close").click()
    assert window.locator("#row-detail").is_hidden()

    direct = reader()
    assert direct.open(pages.two, f"#{op_id}").inner_text("#row-detail-title") == label
    strange = reader()
    text = strange.open(pages.two, f"#{'0' * 20}").inner_text("#row-detail-title")
    assert text == "This row is not on this page"


def test_a_click_on_a_point_leads_to_its_row(reader, pages):
    one = reader()
    window = one.open(pages.one)
    window.locator("[data-chart=latency-flops-0] .mark-symbol.layer_1_marks path").first.click(
        force=True
    )
    window.wait_for_selector("#row-detail-title")
    op_id = window.url.rpartition("#")[2]
    assert re.fullmatch("[0-9a-f]{20}", op_id)
    assert op_id in window.inner_text("#row-detail")


def test_all_can_be_done_from_the_keyboard(reader, pages):
    one = reader()
    window = one.open(pages.one)
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.textContent") == "Skip to the rows"
    window.keyboard.press("Enter")
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.id") == "search"
    window.keyboard.type("k3")
    assert all("k3" in label for label in one.column(1))
    one.heading("latency").focus()
    window.keyboard.press("Enter")
    assert window.locator("th[aria-sort=ascending]").count() == 1
    assert window.evaluate("document.activeElement.textContent").startswith("latency")
    window.locator("#row-table tbody a").first.focus()
    window.keyboard.press("Enter")
    window.wait_for_selector("#row-detail-title:focus")


def test_ten_thousand_rows_are_all_searched_and_a_page_of_them_is_shown(reader, pages):
    one = reader()
    window = one.open(pages.large)
    assert window.inner_text("#row-count") == "Rows 1 to 50 of 10,000"
    assert window.locator("#row-table tbody tr").count() == 50
    window.get_by_role("button", name="Next").click()
    assert window.inner_text("#row-count") == "Rows 51 to 100 of 10,000"
    assert window.inner_text("#page-of") == "Page 2 of 200"
    window.fill("#search", "op_number_9876")
    assert one.column(1) == ["op_number_9876"]
    assert window.locator("#pages").is_hidden()
    linked = reader()
    linked.open(pages.large, f"#{9876:020x}")
    assert linked.window.locator("tr[aria-current]").count() == 1


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [("one", DESKTOP, "light"), ("two", DESKTOP, "dark"), ("two", PHONE, "light")],
)
def test_axe_finds_no_barrier(reader, pages, name, size, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="of hwprof[test]")
    window = reader(size=size, color_scheme=scheme).open(getattr(pages, name))
    window.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    window.locator("#surprises a").first.click()
    found = axe.Axe().run(window)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_page_is_as_wide_as_its_window(reader, pages, size, tmp_path):
    one = reader(size=size, device_scale_factor=1)
    window = one.open(pages.two)
    width, inner = window.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width == inner == size["width"]
    outside = """() => [...document.querySelectorAll(".plot svg")]
      .filter((svg) => svg.getBoundingClientRect().right > innerWidth).length"""
    assert window.evaluate(outside) == 0
    picture = window.screenshot(path=tmp_path / "page.png", full_page=True)
    assert len(picture) > 50_000


def test_charts_follow_the_colour_scheme(reader, pages):
    one = reader(color_scheme="light")
    window = one.open(pages.one)
    light = window.locator(".plot .role-axis-title text").first.get_attribute("fill")
    window.emulate_media(color_scheme="dark")
    window.wait_for_selector(f".plot .role-axis-title text:not([fill='{light}'])", state="attached")
    assert one.messages == []
