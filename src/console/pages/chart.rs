//! Charts over time as SVG. plotters draws them in colours that stand for classes, which take the colours' place, so that the stylesheet
//! decides what they look like; beside each chart its numbers stand as a table.

use super::format;
use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fmt::Write;

const WIDTH: u32 = 520;
const HEIGHT: u32 = 180;
/// Texts and axes.
const INK: RGBColor = RGBColor(0, 0, 250);
/// Lines behind the marks.
const GRID: RGBColor = RGBColor(0, 0, 251);

/// What the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// How many.
    Count,
    /// Milliseconds.
    Millis,
    /// Dollars.
    Dollars,
}

impl Unit {
    fn told(self, value: f64) -> String {
        match self {
            Self::Count => format::short(value),
            Self::Millis if value >= 1000.0 => format!("{} s", format::short((value / 10.0).round() / 100.0)),
            Self::Millis => format!("{} ms", format::short((value * 10.0).round() / 10.0)),
            Self::Dollars if value == 0.0 => "$0".to_owned(),
            Self::Dollars if value >= 0.01 => format!("${}", format::short(value)),
            Self::Dollars => format!("${:.*}", (-value.log10()).ceil() as usize + 1, value),
        }
    }
}

/// How the values are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marks {
    /// A bar for each span, one series on top of the other.
    Bars,
    /// A line for each series.
    Lines,
}

/// One row of values.
pub(super) struct Series {
    /// Its name for people.
    pub name: String,
    /// Which of the stylesheet's six series it is, from 1.
    pub class: u8,
    /// A value for each span; `None` where there is none.
    pub values: Vec<Option<f64>>,
}

/// A chart.
pub(super) struct Chart {
    /// What it shows.
    pub title: String,
    /// What its values are.
    pub unit: Unit,
    /// How they are drawn.
    pub marks: Marks,
    /// When the first span begins, in Unix milliseconds.
    pub from_unix_ms: u64,
    /// The length of a span in milliseconds.
    pub span_ms: u64,
    /// The values.
    pub series: Vec<Series>,
}

impl Chart {
    /// The chart in a panel.
    pub fn panel(&self) -> Markup {
        let drawn = self.svg();
        html! {
            section.panel {
                header {
                    h2 { (self.title) }
                    @if self.series.len() > 1 {
                        ul.legend { @for series in &self.series { li class={ "k-" (series.class) } { (series.name) } } }
                    }
                }
                div.body {
                    (PreEscaped(drawn))
                    details.quiet { summary { "Numbers" span.visually-hidden { " of " (self.title) } } (self.table()) }
                }
            }
        }
    }

    fn table(&self) -> Markup {
        let spans = self.series.iter().map(|series| series.values.len()).max().unwrap_or(0);
        let told = |series: &Series, span: usize| {
            series
                .values
                .get(span)
                .copied()
                .flatten()
                .map_or_else(|| "\u{2013}".to_owned(), |value| self.unit.told(value))
        };
        let is_there = |span: &usize| {
            self.series.iter().any(|it| matches!(it.values.get(*span), Some(Some(value)) if *value != 0.0))
        };
        html! {
            div.scroll.tall tabindex="0" role="region" aria-label={ "Numbers of " (self.title) } {
                table {
                    thead { tr { th scope="col" { "From" } @for series in &self.series { th.num scope="col" { (series.name) } } } }
                    tbody {
                        @for span in (0..spans).filter(is_there) {
                            tr {
                                td { (format::clock(self.from_unix_ms + self.span_ms * span as u64)) }
                                @for series in &self.series { td.num { (told(series, span)) } }
                            }
                        }
                    }
                }
            }
        }
    }

    fn svg(&self) -> String {
        let mut drawn = String::new();
        {
            let area = SVGBackend::with_string(&mut drawn, (WIDTH, HEIGHT)).into_drawing_area();
            // A picture in memory cannot fail to be drawn; if ever, the table beside it has the numbers.
            if let Err(error) = self.draw(&area) {
                log::warn!("a chart of the console cannot be drawn: {error}");
            }
        }
        themed(&drawn, &self.title, &self.described())
    }

    /// What the picture says, in a sentence.
    fn described(&self) -> String {
        let mut text = String::new();
        for series in &self.series {
            let known = || series.values.iter().flatten().copied();
            let most = known().fold(0.0, f64::max);
            let last = known().last().unwrap_or(0.0);
            // A string takes any amount of text.
            let _ = write!(text, "{}: at most {}, last {}. ", series.name, self.unit.told(most), self.unit.told(last));
        }
        text
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn std::error::Error>> {
        let spans = self.series.iter().map(|series| series.values.len()).max().unwrap_or(0).max(1);
        let most = match self.marks {
            Marks::Lines => self.series.iter().flat_map(|it| &it.values).flatten().copied().fold(0.0, f64::max),
            Marks::Bars => (0..spans).map(|span| self.stacked(span, self.series.len())).fold(0.0, f64::max),
        };
        let top = if most > 0.0 { most * 1.08 } else { 1.0 };
        let style = ("sans-serif", 11).into_font().color(&INK);
        let mut chart = ChartBuilder::on(area)
            .margin_top(8)
            .margin_right(18)
            .x_label_area_size(22)
            .y_label_area_size(54)
            .build_cartesian_2d(0.0..spans as f64, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(style)
            .y_labels(4)
            .x_labels(5)
            .y_label_formatter(&|value| self.unit.told(*value))
            .x_label_formatter(&|span| self.when(*span))
            .draw()?;
        match self.marks {
            Marks::Bars => {
                for (place, series) in self.series.iter().enumerate() {
                    let bar = |(span, value): (usize, &Option<f64>)| {
                        let value = value.filter(|value| *value > 0.0)?;
                        let below = self.stacked(span, place);
                        let (left, right) = (span as f64 + 0.12, span as f64 + 0.88);
                        Some(Rectangle::new([(left, below), (right, below + value)], colour(series.class).filled()))
                    };
                    chart.draw_series(series.values.iter().enumerate().filter_map(bar))?;
                }
            }
            Marks::Lines => {
                for series in &self.series {
                    // Where a span has no value, the line goes on from the one before to the one after.
                    let known = series.values.iter().enumerate();
                    let points = known.filter_map(|(span, value)| value.map(|value| (span as f64 + 0.5, value)));
                    let points: Vec<(f64, f64)> = points.collect();
                    let line = colour(series.class).stroke_width(2);
                    if let [only] = points[..] {
                        chart.draw_series([Circle::new(only, 3, colour(series.class).filled())])?;
                    } else {
                        chart.draw_series(LineSeries::new(points, line))?;
                    }
                }
            }
        }
        area.present()?;
        Ok(())
    }

    /// The sum of the first so many series in a span.
    fn stacked(&self, span: usize, series: usize) -> f64 {
        self.series.iter().take(series).filter_map(|it| it.values.get(span).copied().flatten()).sum()
    }

    fn when(&self, span: f64) -> String {
        let at = self.from_unix_ms + (span * self.span_ms as f64) as u64;
        let stamp = format::stamp(at);
        let part = if self.span_ms >= 86_400_000 { stamp.get(5..10) } else { stamp.get(11..16) };
        part.unwrap_or_default().to_owned()
    }
}

fn colour(class: u8) -> RGBColor {
    RGBColor(0, 0, class)
}

/// The picture with classes for colours, as wide as its place, with what it shows for those who do not see it.
fn themed(drawn: &str, title: &str, description: &str) -> String {
    let label = html! { (title) ". " (description) }.into_string();
    let head = format!("<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\"");
    let body = drawn.split_once('>').map_or("", |(_, body)| body);
    let mut text = format!("{head}>{body}");
    let classes = [(250, "ink"), (251, "grid")].map(|(blue, name)| (blue, name.to_owned()));
    for (blue, name) in classes.into_iter().chain((1..=6).map(|class| (class, class.to_string()))) {
        text = text.replace(&format!("fill=\"#{blue:06X}\""), &format!("class=\"f-{name}\""));
        text = text.replace(&format!("stroke=\"#{blue:06X}\""), &format!("class=\"s-{name}\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(marks: Marks) -> Chart {
        let values = |values: &[f64]| values.iter().map(|value| Some(*value)).collect();
        let series = |name: &str, class, list: &[f64]| Series { name: name.to_owned(), class, values: values(list) };
        Chart {
            title: "Requests <b>".to_owned(),
            unit: Unit::Count,
            marks,
            from_unix_ms: 1_000_000_000_000,
            span_ms: 3_600_000,
            series: vec![series("served", 1, &[3.0, 0.0, 5.0]), series("failed", 2, &[1.0, 0.0, 0.0])],
        }
    }

    #[test]
    fn colours_are_the_stylesheets_and_texts_are_texts() {
        for marks in [Marks::Bars, Marks::Lines] {
            let html = chart(marks).panel().into_string();
            assert!(html.contains("f-ink") && html.contains("s-grid"), "{html}");
            assert!(html.contains(if marks == Marks::Bars { "class=\"f-2\"" } else { "class=\"s-2\"" }), "{html}");
            let coloured = html
                .split('#')
                .skip(1)
                .filter(|rest| rest.len() > 6 && rest[..6].bytes().all(|b| b.is_ascii_hexdigit()));
            assert_eq!(coloured.count(), 0, "{html}");
            assert!(!html.contains("<b>") && !html.contains("style="), "{html}");
        }
    }

    #[test]
    fn what_is_drawn_can_be_read() {
        let html = chart(Marks::Bars).panel().into_string();
        assert!(html.contains("served: at most 5, last 5."), "{html}");
        assert!(html.contains("2001-09-09T03:46:40.000Z"), "the last span is in the table: {html}");
        let empty = Chart { series: Vec::new(), ..chart(Marks::Lines) };
        assert!(empty.panel().into_string().contains("</svg>"));
    }
}
