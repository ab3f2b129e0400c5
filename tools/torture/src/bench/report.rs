//! What comes out: a line of a table per figure, `results.json` with everything, `results.svg` with
//! what was to be reached.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::figure::{Figure, Reach};

/// The head of the table.
pub const HEAD: &str =
    "| what | measured | yardstick | ratio | reach | reached | |\n|---|---|---|---|---|---|---|";

/// One line of the table.
pub fn line(figure: &Figure, quick: bool) -> String {
    let yardstick = figure.yardstick.map_or_else(String::new, |value| number(value, figure.unit));
    let ratio = figure.yardstick.map_or_else(String::new, |_| format!("{:.2}", figure.judged));
    let reach = figure.reach.map_or_else(String::new, |reach| match reach {
        Reach::AtLeast(least) => format!("≥ {least:.2}"),
        Reach::AtMost(most) => format!("≤ {most}"),
    });
    let reached = match figure.is_reached() {
        Some(_) if quick => "not judged",
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let measured = number(figure.measured, figure.unit);
    let Figure { what, note, .. } = figure;
    format!("| {what} | {measured} | {yardstick} | {ratio} | {reach} | {reached} | {note} |")
}

fn number(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 0.1 => 2,
        _ => 3,
    };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

/// Writes the two files.
pub fn write(folder: &Path, figures: &[Figure], quick: bool) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let machine = machine();
    let all = json!({
        "machine": machine,
        "placement": "server (on PostgreSQL: the database) on core 0; load (on PostgreSQL: with Ligand, or pgbench) on core 1",
        "at_unix_ms": super::seed::now_ms(),
        "quick": quick,
        "figures": figures,
    });
    std::fs::write(folder.join("results.json"), serde_json::to_string_pretty(&all)? + "\n")?;
    std::fs::write(folder.join("results.svg"), plot(figures, &machine))?;
    Ok(())
}

/// Processor, cores and kernel, as Linux tells them.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let release = read("/proc/sys/kernel/osrelease");
    let version = release.trim().split('-').next().unwrap_or_default();
    format!("{model}, {cores} cores, Linux {version}")
}

const WIDTH: f64 = 980.0;
const ROW: f64 = 24.0;
const LABELS: f64 = 520.0;
/// Where the line of the reach stands, from the left end of the bars.
const LINE: f64 = 240.0;
/// Bars are cut here, in lengths of the reach.
const SHARE_MAX: f64 = 1.5;
const REACHED: &str = "#2e7d52";
const SHORT: &str = "#b5452c";

/// Bars in lengths of the reach: rates have to pass the line, times and sizes to stay before it.
fn plot(figures: &[Figure], machine: &str) -> String {
    let (mut least, mut most) = (Vec::new(), Vec::new());
    for figure in figures {
        match figure.reach {
            Some(Reach::AtLeast(reach)) => {
                least.push((figure, figure.judged / reach, format!("≥ {reach:.2}")))
            }
            Some(Reach::AtMost(reach)) => most.push((figure, figure.judged / reach, format!("≤ {reach}"))),
            None => {}
        }
    }
    let mut body = String::new();
    let mut y = 54.0;
    for (title, rows) in [("to pass the line", least), ("to stay before the line", most)] {
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(body, "<text x=\"{LABELS}\" y=\"{y:.0}\" class=\"t\">{title}</text>");
        y += 10.0;
        let (top, x) = (y, LABELS + LINE);
        for (figure, share, reach) in rows {
            bar(&mut body, y, figure, share, &reach);
            y += ROW;
        }
        let _ = writeln!(
            body,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"{top:.0}\" y2=\"{y:.0}\" stroke=\"#333\" stroke-dasharray=\"3 3\"/>"
        );
        y += 30.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>.t {{ fill: #555 }} .v {{ font-size: 12px }}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{y:.0}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\">Ligand beside its yardsticks: {}</text>\n{body}</svg>\n",
        escaped(machine)
    )
}

fn bar(body: &mut String, y: f64, figure: &Figure, share: f64, reach: &str) {
    let colour = if figure.is_reached() == Some(true) { REACHED } else { SHORT };
    let length = share.clamp(0.0, SHARE_MAX) * LINE;
    let value = match figure.yardstick {
        Some(_) => format!("{:.2}", figure.judged),
        None => number(figure.judged, figure.unit),
    };
    let text_y = y + 16.0;
    let _ = writeln!(
        body,
        "<text x=\"{}\" y=\"{text_y:.0}\" text-anchor=\"end\">{}</text>",
        LABELS - 10.0,
        escaped(&figure.what)
    );
    let _ = writeln!(
        body,
        "<rect x=\"{LABELS}\" y=\"{:.0}\" width=\"{length:.1}\" height=\"16\" fill=\"{colour}\"/>",
        y + 3.0
    );
    let _ = writeln!(
        body,
        "<text x=\"{:.0}\" y=\"{text_y:.0}\" class=\"v\">{} ({})</text>",
        LABELS + length.max(LINE) + 8.0,
        escaped(&value),
        escaped(reach)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_whether_it_was_reached() {
        let figure = Figure::beside("check", "1/s", &[(60.0, 100.0)], Some(Reach::AtLeast(0.65)));
        assert_eq!(line(&figure, false), "| check | 60.0 1/s | 100 1/s | 0.60 | ≥ 0.65 | no |  |");
        assert!(line(&figure, true).contains("not judged"));
    }

    #[test]
    fn the_plot_shows_what_was_to_be_reached_only() {
        let figures = [
            Figure::alone("a < b", "ms", &[5.0], Some(Reach::AtMost(10.0))),
            Figure::alone("unjudged", "ms", &[5.0], None),
        ];
        let svg = plot(&figures, "x");
        assert!(svg.contains("a &lt; b") && svg.contains("width=\"120.0\"") && !svg.contains("unjudged"));
    }
}
