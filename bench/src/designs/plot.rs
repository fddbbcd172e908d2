//! The plot: a group of bars per design, host and member, a panel per clock and mode.

use super::measure::Mode;
use super::{CLOCKS, Measured};
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const PANEL: f64 = 210.0;
const LEFT: f64 = 60.0;
const BARS: f64 = 120.0;
const HEADING: f64 = 64.0;

/// The plot as SVG.
pub(super) fn svg(measured: &[Measured], tick_ns: f64, facts: &[(&'static str, String)]) -> String {
    let panels = [(0, Mode::Hot), (1, Mode::Hot), (0, Mode::Cold), (0, Mode::Both)];
    let height = HEADING + PANEL * panels.len() as f64;
    let mut names: Vec<&str> = measured.iter().map(|measured| measured.target.name()).collect();
    names.dedup();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let fact =
        |name: &str| facts.iter().find(|(fact, _)| *fact == name).map_or("", |(_, value)| value.trim_matches('`'));
    // Writing to a string does not fail.
    for (line, text) in
        [format!("{}; {}", fact("machine"), fact("kernel")), fact("command").to_owned()].iter().enumerate()
    {
        _ = writeln!(svg, "<text x=\"10\" y=\"{}\">{}</text>", 18 + 16 * line, escaped(text));
    }
    for (at, (colour, side)) in [("#4878a8", "host"), ("#d08040", "member")].iter().enumerate() {
        let x = 10 + 90 * at;
        _ = writeln!(svg, "<rect x=\"{x}\" y=\"44\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
        _ = writeln!(svg, "<text x=\"{}\" y=\"53\">{side}</text>", x + 15);
    }
    for (panel, (clock, mode)) in panels.into_iter().enumerate() {
        let top = HEADING + PANEL * panel as f64;
        let title = format!("{}, {}: ns per call", CLOCKS[clock].1, mode.title());
        _ = writeln!(svg, "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{title}</text>", top + 16.0);
        let base = top + 40.0 + BARS;
        let most = measured.iter().map(|measured| measured.ns(clock, mode, tick_ns)).fold(1.0, f64::max);
        let group = (WIDTH - LEFT) / names.len() as f64;
        for (at, name) in names.iter().enumerate() {
            let x = LEFT + group * at as f64;
            _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\">{}</text>", base + 16.0, escaped(name));
            for measured in measured.iter().filter(|measured| measured.target.name() == *name) {
                let member = measured.target.is_member();
                let ns = measured.ns(clock, mode, tick_ns);
                let (height, width) = (BARS * ns / most, group * 0.36);
                let x = x + if member { width + 2.0 } else { 0.0 };
                let colour = if member { "#d08040" } else { "#4878a8" };
                _ = writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>\n\
                     <text x=\"{x:.1}\" y=\"{:.1}\">{ns:.1}</text>",
                    base - height,
                    base - height - 3.0
                );
            }
        }
        _ = writeln!(svg, "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{base}\" y2=\"{base}\" stroke=\"black\"/>");
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
