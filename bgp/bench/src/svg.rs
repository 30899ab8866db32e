//! Line charts with linear axes from zero, as small SVG files.

use std::fmt::Write;

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Series {
    /// Name in the legend.
    pub name: &'static str,
    /// x and y, with x ascending.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Above it.
    pub title: &'static str,
    /// Below the x axis.
    pub x: &'static str,
    /// Unit of the y axis.
    pub y: &'static str,
    /// The lines; the first two decide how high the chart is.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
const COLOURS: [&str; 5] = ["#1b6ca8", "#d1495b", "#3a7d44", "#8d6b94", "#b08900"];
/// A line that is higher than this many times the others leaves the chart at the top.
const CLIP: f64 = 2.0;

impl Chart {
    /// The file.
    pub fn draw(&self) -> String {
        let (right, top) = self.limits();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"11\" fill=\"#333\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"13\">{}</text>\n\
             <text x=\"{LEFT}\" y=\"{}\">{}</text>\n\
             <clipPath id=\"c\"><rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{}\" height=\"{}\"/></clipPath>\n",
            self.title,
            HEIGHT - 8.0,
            self.x,
            WIDTH - LEFT - RIGHT + 4.0,
            HEIGHT - TOP - BOTTOM
        );
        let place = |(x, y): (f64, f64)| {
            let across = LEFT + x / right * (WIDTH - LEFT - RIGHT);
            let up = HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM);
            (across, up)
        };
        self.axes(&mut svg, right, top, place);
        let mut names = Vec::new();
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            line(&mut svg, series, colour, place);
            name(&mut svg, &mut names, series, colour, top, place);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn limits(&self) -> (f64, f64) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let right = points().map(|point| point.0).fold(0.0, f64::max);
        let highest = points().map(|point| point.1).fold(0.0, f64::max);
        let first = self.series.iter().take(2).flat_map(|series| &series.points);
        let first = first.map(|point| point.1).fold(0.0, f64::max);
        let top = if first > 0.0 {
            highest.min(CLIP * first)
        } else {
            highest
        };
        (round_up(right), round_up(top))
    }

    fn axes(
        &self,
        svg: &mut String,
        right: f64,
        top: f64,
        place: impl Fn((f64, f64)) -> (f64, f64),
    ) {
        for fifth in 0..=5 {
            let share = f64::from(fifth) / 5.0;
            let (x, y) = place((right * share, top * share));
            let (end, base) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
            // Writing to a string cannot fail.
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{end}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}{}</text>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                LEFT - 5.0,
                y + 4.0,
                number(top * share),
                if fifth == 5 {
                    format!(" {}", self.y)
                } else {
                    String::new()
                },
                base + 15.0,
                number(right * share)
            );
        }
    }
}

fn line(svg: &mut String, series: &Series, colour: &str, place: impl Fn((f64, f64)) -> (f64, f64)) {
    let places: Vec<_> = series.points.iter().map(|point| place(*point)).collect();
    let path = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}"));
    let path = path.collect::<Vec<_>>().join(" ");
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        "<g clip-path=\"url(#c)\"><polyline points=\"{path}\" fill=\"none\" \
         stroke=\"{colour}\" stroke-width=\"2\"/>"
    );
    for (x, y) in &places {
        let _ = write!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
        );
    }
    svg.push_str("</g>\n");
}

/// The name stands where the line ends, or where it leaves the chart; below the names that
/// stand there already.
fn name(
    svg: &mut String,
    names: &mut Vec<f64>,
    series: &Series,
    colour: &str,
    top: f64,
    place: impl Fn((f64, f64)) -> (f64, f64),
) {
    let Some(last) = series.points.last() else {
        return;
    };
    let (x, mut y) = if last.1 > top {
        let mut inside = series.points.iter().filter(|point| point.1 <= top);
        let x = inside.next_back().map_or(LEFT, |point| place(*point).0);
        (x, TOP - 3.0)
    } else {
        let (x, y) = place(*last);
        (x + 8.0, y + 4.0)
    };
    while names.iter().any(|other| (other - y).abs() < 12.0) {
        y += 1.0;
    }
    names.push(y);
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{}</text>",
        series.name
    );
}

/// The next of 1, 2, 3, 4, 5, 6, 8, 10 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0];
    let step = steps.into_iter().find(|step| step * power >= value);
    step.unwrap_or(10.0) * power
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        return format!("{}k", round(value / 1000.0));
    }
    round(value)
}

fn round(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
