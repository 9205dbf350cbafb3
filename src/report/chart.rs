//! Charts of what happened over time, as the points of lines in a fixed box. A page draws them as SVG.

use serde::Serialize;

use crate::output::span;
use crate::store::journal::{Sample, SessionHistory};

/// The box of a chart, in units of its SVG.
pub(crate) const WIDTH: f64 = 640.0;
pub(crate) const HEIGHT: f64 = 160.0;
/// The number of points of a line, beyond which neighbours are merged.
const POINTS: usize = 320;
/// A moment that is shorter, in seconds, says little: the last one of a session.
const SHORTEST: f64 = 0.5;
/// The room above the highest value, as a share of it.
const HEADROOM: f64 = 1.15;

/// A chart.
#[derive(Debug, Serialize)]
pub(crate) struct Chart {
    /// The title with the unit.
    pub title: String,
    /// The lines.
    pub lines: Vec<Line>,
    /// Where all requests were paused: `[x, width]`.
    pub pauses: Vec<[f64; 2]>,
    /// The largest value, at the top.
    pub most: String,
    /// The time at the right end.
    pub end: String,
    /// What it shows, for those who can't see it.
    pub description: String,
}

/// A line of a chart.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// What it shows.
    pub label: &'static str,
    /// The `points` of an SVG polyline.
    pub points: String,
}

/// A second of a run.
struct Moment {
    /// Seconds since the run started, without the time between its sessions.
    at: f64,
    /// Seconds since the moment before.
    lasts: f64,
    rows_per_second: f64,
    requests_per_second: f64,
    limit: Option<f64>,
    median_ms: Option<f64>,
    p95_ms: Option<f64>,
    is_paused: bool,
}

/// Returns the charts of a run; there are none of a run of less than two moments.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of rows and requests, drawn a few hundred points wide"
)]
pub(crate) fn charts(sessions: &[SessionHistory]) -> Vec<Chart> {
    let mut moments = Vec::new();
    let mut offset = 0.0;
    for session in sessions {
        let mut before = Sample::default();
        for sample in &session.samples {
            let lasts = sample.seconds - before.seconds;
            if lasts < SHORTEST {
                continue;
            }
            moments.push(Moment {
                at: offset + sample.seconds,
                lasts,
                rows_per_second: sample.rows.saturating_sub(before.rows) as f64 / lasts,
                requests_per_second: sample.requests.saturating_sub(before.requests) as f64 / lasts,
                limit: sample.rate,
                median_ms: sample.median_ms,
                p95_ms: sample.p95_ms,
                is_paused: sample.paused,
            });
            before = sample.clone();
        }
        offset += before.seconds;
    }
    if moments.len() < 2 {
        return Vec::new();
    }
    let frame = Frame::of(&moments);
    let throughput = frame.chart(
        "Throughput (a second)",
        &[
            ("rows", &|moment: &Moment| Some(moment.rows_per_second)),
            ("requests", &|moment: &Moment| {
                Some(moment.requests_per_second)
            }),
        ],
        Some(("limit", &|moment: &Moment| moment.limit)),
    );
    let latency = frame.chart(
        "Latency (ms)",
        &[
            ("median", &|moment: &Moment| moment.median_ms),
            ("95%", &|moment: &Moment| moment.p95_ms),
        ],
        None,
    );
    vec![throughput, latency]
}

/// What the charts of a run share: the moments, merged to the points of a line.
struct Frame<'m> {
    groups: Vec<&'m [Moment]>,
    end: f64,
    pauses: Vec<[f64; 2]>,
}

type Series<'s> = (&'static str, &'s dyn Fn(&Moment) -> Option<f64>);

impl<'m> Frame<'m> {
    fn of(moments: &'m [Moment]) -> Self {
        let end = moments.last().map_or(1.0, |last| last.at);
        let pauses = moments.iter().filter(|moment| moment.is_paused);
        Self {
            groups: moments.chunks(moments.len().div_ceil(POINTS)).collect(),
            pauses: pauses
                .map(|moment| {
                    let from = (moment.at - moment.lasts) / end * WIDTH;
                    [
                        rounded(from),
                        rounded((moment.lasts / end * WIDTH).max(1.0)),
                    ]
                })
                .collect(),
            end,
        }
    }

    /// Returns a chart of some series. `bound` is drawn as far as it is near them, because it may be far above.
    fn chart(&self, title: &str, series: &[Series<'_>], bound: Option<Series<'_>>) -> Chart {
        let mut lines: Vec<(&'static str, Vec<(f64, f64)>)> = series
            .iter()
            .map(|(label, value)| (*label, self.points(value)))
            .collect();
        let highest = |points: &[(f64, f64)]| points.iter().map(|(_, y)| *y).fold(0.0, f64::max);
        let described: Vec<String> = lines
            .iter()
            .map(|(label, points)| format!("{label} up to {:.0}", highest(points)))
            .collect();
        let most = lines.iter().map(|(_, points)| highest(points));
        let most = most.fold(1.0, f64::max) * HEADROOM;
        if let Some((label, value)) = bound {
            let mut points = self.points(value);
            points.retain(|(_, y)| *y <= most);
            lines.push((label, points));
        }
        Chart {
            title: title.to_owned(),
            description: format!("{title} over {}: {}", span(self.end), described.join(", ")),
            lines: (lines.iter())
                .filter(|(_, points)| !points.is_empty())
                .map(|(label, points)| Line {
                    label,
                    points: self.polyline(points, most),
                })
                .collect(),
            pauses: self.pauses.clone(),
            most: format!("{most:.0}"),
            end: span(self.end),
        }
    }

    /// Returns the mean of a value in each group of moments.
    fn points(&self, value: &dyn Fn(&Moment) -> Option<f64>) -> Vec<(f64, f64)> {
        let mean = |group: &&[Moment]| {
            let values: Vec<f64> = group.iter().filter_map(value).collect();
            let at = group.last()?.at;
            #[expect(clippy::cast_precision_loss, reason = "a few hundred values")]
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (!values.is_empty()).then_some((at, mean))
        };
        self.groups.iter().filter_map(mean).collect()
    }

    fn polyline(&self, points: &[(f64, f64)], most: f64) -> String {
        let place = |(at, value): &(f64, f64)| {
            let (x, y) = (at / self.end * WIDTH, HEIGHT - value / most * HEIGHT);
            format!("{},{}", rounded(x), rounded(y))
        };
        points.iter().map(place).collect::<Vec<_>>().join(" ")
    }
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(samples: impl IntoIterator<Item = Sample>) -> SessionHistory {
        SessionHistory {
            samples: samples.into_iter().collect(),
            ..SessionHistory::default()
        }
    }

    fn sample(second: u32) -> Sample {
        Sample {
            seconds: second.into(),
            rows: u64::from(second) * 10,
            requests: u64::from(second) * 20,
            median_ms: Some(50.0),
            p95_ms: Some(90.0),
            paused: second == 2,
            ..Sample::default()
        }
    }

    #[test]
    fn lines_stay_in_the_box_and_sessions_follow_each_other() {
        let charts = charts(&[session((1..=4).map(sample)), session((1..=4).map(sample))]);
        let [throughput, latency] = charts.as_slice() else {
            panic!("there are two charts")
        };
        assert_eq!(throughput.end, "8.0 s");
        assert_eq!(throughput.most, "23");
        assert_eq!(throughput.pauses.len(), 2);
        let rows = &throughput.lines[0];
        assert_eq!(rows.points.split(' ').count(), 8);
        assert!(rows.points.ends_with("640,90.4"), "{}", rows.points);
        assert_eq!(latency.lines.len(), 2);
    }

    #[test]
    fn long_runs_have_few_points() {
        let charts = charts(&[session((1..=100_000).map(sample))]);
        let points = charts[0].lines[0].points.split(' ').count();
        assert!((100..=POINTS).contains(&points), "{points}");
    }

    #[test]
    fn a_run_of_one_moment_has_no_chart() {
        assert!(charts(&[session([sample(1)])]).is_empty());
    }
}
