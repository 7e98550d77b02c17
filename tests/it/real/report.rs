//! The page of a report in a real browser: Chromium, without a window.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::report::{Done, long_run, says};

/// Where pictures are kept to be looked at.
const PICTURES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/report");

/// Written into a copy of the page that lets scripts run: the width and height of each plot, and the width of its widest
/// curve. Lines of the grid, the axes and a limit are none.
const PROBE: &str =
    "<script>document.title = JSON.stringify([...document.querySelectorAll('figure > svg')].map(svg => {
  const others = ['#E2E1DC', '#B4B2A9', '#72243E'];
  const lines = [...svg.querySelectorAll('polyline')].filter(line => !others.includes(line.getAttribute('stroke')));
  const box = svg.getBoundingClientRect();
  return [box.width, box.height, Math.max(0, ...lines.map(line => line.getBBox().width))];
}))</script>";

/// Opens a page: what the browser printed, and what it logged.
fn chromium(page: &Path, arguments: &[&str]) -> (String, String) {
    let home = TempDir::new().expect("a folder");
    let mut browser = Command::new("timeout");
    browser.args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    browser.arg(format!("--user-data-dir={}", home.path().display()));
    browser.args(["--enable-logging=stderr", "--v=0"]).args(arguments);
    let out = browser.arg(format!("file://{}", page.display())).output().expect("chromium starts");
    let [printed, logged] = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(out.status.success(), "{logged}");
    (printed, logged)
}

/// What the page's console says.
fn console(page: &Path) -> Vec<String> {
    let (_, logged) = chromium(page, &["--dump-dom"]);
    logged.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect()
}

/// The width and height of each plot, and the width of its widest curve, as the browser lays them out.
fn sizes(page: &str) -> Vec<[f64; 3]> {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("probe.html");
    let probed = page.replace("default-src 'none'", "default-src 'unsafe-inline'");
    fs::write(&path, probed.replace("</body>", &format!("{PROBE}</body>"))).expect("a file");
    let (dom, _) = chromium(&path, &["--dump-dom"]);
    let title = dom.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).expect("a title");
    let found: Value = serde_json::from_str(title).unwrap_or_else(|error| panic!("{error}: {title}"));
    let number = |value: &Value| value.as_f64().expect("a number");
    found.as_array().expect("plots").iter().map(|plot| [0, 1, 2].map(|index| number(&plot[index]))).collect()
}

/// Whether all plots are there, large enough to be read, with a curve that fills most of the width.
fn all_drawn(page: &str, count: usize) -> bool {
    let sizes = sizes(page);
    sizes.len() == count
        && sizes.iter().all(|[width, height, curve]| *width > 300.0 && *height > 100.0 && *curve > 300.0)
}

/// Prints where something can be looked at.
fn told(path: &Path) {
    writeln!(std::io::stderr(), "{}", path.display()).expect("it is told");
}

/// Keeps a picture, which must not be of one colour.
fn picture(page: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    fs::create_dir_all(PICTURES).expect("a folder");
    let path = Path::new(PICTURES).join(name);
    let into = format!("--screenshot={}", path.display());
    chromium(page, &[&[into.as_str(), "--hide-scrollbars", "--window-size=1200,4200"], arguments].concat());
    told(&path);
    assert!(fs::metadata(&path).expect("a picture").len() > 100_000, "{}", path.display());
    path
}

#[test]
fn a_browser_shows_every_plot_and_has_nothing_to_complain_of() {
    let done = Done::new(&["energy.country=FRA", "data.train[0].licence=etalab-2.0"]);
    let run = done.path("run");
    long_run(&run, 10_000);
    says(0, &["eval", &done.text("run")]);
    says(0, &["report", &done.text("run")]);
    let path = run.join("report.html");
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(console(&path), Vec::<String>::new());
    assert!(all_drawn(&page, 7), "{:?}", sizes(&page));

    // The checks see what they are for: a plot without its curves, a plot too few, a page that wants something.
    let (before, plot) = page.split_once("<polyline").unwrap();
    let (plot, after) = plot.split_once("</svg>").unwrap();
    assert!(plot.contains("<polyline"));
    assert!(!all_drawn(&format!("{before}</svg>{after}"), 7));
    assert!(!all_drawn(&page, 8));
    let wants = done.path("wants.html");
    fs::write(&wants, page.replace("</body>", "<img src=\"x.png\"></body>")).unwrap();
    assert!(console(&wants)[0].contains("Content Security Policy"));

    let light = fs::read(picture(&path, "light.png", &["--blink-settings=preferredColorScheme=1"])).unwrap();
    let dark = fs::read(picture(&path, "dark.png", &["--blink-settings=preferredColorScheme=0"])).unwrap();
    assert_ne!(light, dark, "the page knows the dark");
    let paper = Path::new(PICTURES).join("paper.pdf");
    chromium(&path, &[&format!("--print-to-pdf={}", paper.display()), "--no-pdf-header-footer"]);
    told(&paper);
    assert!(fs::read(&paper).unwrap().starts_with(b"%PDF"));
}

#[test]
fn a_comparison_is_drawn_too_in_french() {
    let done = Done::new(&[]);
    let second = done.text("second");
    says(0, &["train", &done.recipe, "--set", &format!("output={second}"), "--set", "train.learning_rate=1e-3"]);
    says(0, &["report", &done.text("run"), &second, "--to", &done.text("both.html"), "--lang", "fr"]);
    let path = done.path("both.html");
    assert_eq!(console(&path), Vec::<String>::new());
    assert!(all_drawn(&fs::read_to_string(&path).unwrap(), 2 + 2 * 6));
    picture(&path, "comparison.png", &[]);
}
