//! The report: JSON, a table, and a chart.

use std::{fmt::Write as _, fs, path::Path};

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) backends: usize,
    pub(crate) rules: usize,
    pub(crate) strategy: &'static str,
    pub(crate) seconds: f64,
    pub(crate) calls: usize,
    pub(crate) writes: usize,
    pub(crate) bound_seconds: f64,
    pub(crate) least_calls: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_to_alone: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peak_rss_mib: Option<f64>,
}

pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<26} {:>8} {:>5}  {:<8} {:>10} {:>7} {:>7} {:>9} {:>8} {:>8}\n",
        "scenario", "backends", "rules", "strategy", "seconds", "calls", "writes", "bound_s", "x bound", "x calls"
    );
    for r in rows {
        _ = writeln!(
            out,
            "{:<26} {:>8} {:>5}  {:<8} {:>10.3} {:>7} {:>7} {:>9.3} {:>8.2} {:>8.2}",
            r.scenario,
            r.backends,
            r.rules,
            r.strategy,
            r.seconds,
            r.calls,
            r.writes,
            r.bound_seconds,
            r.seconds / r.bound_seconds,
            r.calls as f64 / r.least_calls as f64,
        );
        if let (Some(cpu), Some(rss)) = (r.cpu_seconds, r.peak_rss_mib) {
            // Of the whole process: the emulator is in it.
            _ = writeln!(out, "{:<26} {cpu:.3} s of CPU, {rss:.1} MiB at most, with the emulator", "");
        }
    }
    out
}

pub(crate) fn write(rows: &[Row], json: &Path, svg: &Path) -> std::io::Result<()> {
    for path in [json, svg] {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
    }
    let text = serde_json::to_string_pretty(&serde_json::json!({"rows": rows}))?;
    fs::write(json, text + "\n")?;
    fs::write(svg, chart(rows))
}

/// The grid's time by strategy, on a logarithmic axis.
fn chart(rows: &[Row]) -> String {
    const WIDTH: f64 = 860.0;
    const LEFT: f64 = 150.0;
    const BAR: f64 = 13.0;
    let cells: Vec<(usize, usize)> = {
        let mut all: Vec<_> = rows.iter().filter(|r| r.scenario == "grid").map(|r| (r.rules, r.backends)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let x = |seconds: f64| LEFT + (seconds.max(1.0).log10() / 5.0) * (WIDTH - LEFT - 90.0);
    let height = 60.0 + cells.len() as f64 * (3.0 * BAR + 12.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"18\" font-size=\"14\">Seconds until every target is registered (logarithmic)</text>\n"
    );
    for (n, decade) in [1.0, 10.0, 100.0, 1000.0, 10_000.0].into_iter().enumerate() {
        let at = x(decade);
        _ = writeln!(out, "<line x1=\"{at:.1}\" y1=\"38\" x2=\"{at:.1}\" y2=\"{height}\" stroke=\"#ddd\"/>");
        _ = writeln!(out, "<text x=\"{at:.1}\" y=\"34\" text-anchor=\"middle\">1{}</text>", "0".repeat(n));
    }
    for (n, (rules, backends)) in cells.iter().enumerate() {
        let top = 46.0 + n as f64 * (3.0 * BAR + 12.0);
        _ = writeln!(out, "<text x=\"10\" y=\"{:.1}\">{rules} rules x {backends}</text>", top + 1.5 * BAR + 4.0);
        let of_cell = rows.iter().filter(|r| r.scenario == "grid" && r.rules == *rules && r.backends == *backends);
        for (k, r) in of_cell.enumerate() {
            let colour = match r.strategy {
                "naive" => "#c0504d",
                "batched" => "#e0a030",
                _ => "#2e7d32",
            };
            let (y, end) = (top + k as f64 * BAR, x(r.seconds));
            _ = writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{} {:.1} s</text>",
                end - LEFT,
                BAR - 2.0,
                end + 4.0,
                y + BAR - 4.0,
                r.strategy,
                r.seconds
            );
        }
    }
    out + "</svg>\n"
}
