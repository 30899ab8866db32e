use super::*;

fn chart(series: &[(&'static str, f64)]) -> String {
    let series = series.iter().map(|(name, slope)| Series {
        name,
        points: (0..=4).map(f64::from).map(|x| (x, x * slope)).collect(),
    });
    let chart = Chart {
        title: "title",
        x: "x",
        y: "MB",
        series: series.collect(),
    };
    chart.draw()
}

#[test]
fn the_highest_point_is_at_the_top_right_corner() {
    let svg = chart(&[("a", 25.0)]);
    assert!(svg.contains("370.0,34.0\" fill=\"none\""), "{svg}");
    assert!(svg.contains(">100 MB</text>"), "{svg}");
}

#[test]
fn a_line_that_is_far_above_leaves_the_others_their_room() {
    let svg = chart(&[("a", 25.0), ("b", 20.0), ("c", 1000.0)]);
    assert!(svg.contains(">200 MB</text>"), "{svg}");
    assert!(
        svg.contains("y=\"31.0\" fill=\"#3a7d44\">c</text>"),
        "{svg}"
    );
}
