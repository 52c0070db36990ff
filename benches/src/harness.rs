//! Rows, which of them to run, and how they are measured.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::peer::Program;
use crate::probe;
use crate::side::Side;
use crate::stepper::Stepper;

/// What a measured closure returns.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What is measured. It calls [`std::hint::black_box`] on its result.
pub(crate) type Routine = Box<dyn FnMut() -> Outcome>;

/// Why a row cannot be measured here, which is no failure of the others.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Skipped {}

/// A row that is not set up yet.
pub(crate) struct Entry {
    /// A path such as `graph/split/list1000`.
    pub(crate) name: String,
    /// Sets the row up; called only where the row is selected.
    pub(crate) build: Box<dyn FnOnce() -> Outcome<Row>>,
}

impl Entry {
    /// A row with the name and the set-up that makes it.
    pub(crate) fn new(name: impl Into<String>, build: impl FnOnce() -> Outcome<Row> + 'static) -> Self {
        Self { name: name.into(), build: Box::new(build) }
    }
}

/// A row that is ready to run.
pub(crate) struct Row {
    time: Time,
    /// How many of what one call handles.
    scale: Option<(f64, &'static str)>,
    ours: Side,
    /// By their names.
    peers: Vec<(String, Side)>,
    /// How long a round lasts, unless one call takes longer.
    round: Duration,
    /// How long nothing runs between the sides.
    pause: Duration,
}

/// The unit that a row's times are given in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Time {
    Nanoseconds,
    Microseconds,
    Milliseconds,
}

impl Row {
    /// Measures a routine, with no peer.
    pub(crate) fn new(time: Time, ours: impl FnMut() -> Outcome + 'static) -> Self {
        Self::of(time, Side::here(ours), ROUND)
    }

    /// Measures a program beside another that does the same. They take turns, and wait for threads of the other that still
    /// spin.
    pub(crate) fn of_programs(ours: Stepper, name: &str, peer: Stepper) -> Self {
        let mut row = Self::of(Time::Milliseconds, Side::Stepper(ours), ROUND_OF_PROGRAMS);
        row.peers.push((name.to_owned(), Side::Stepper(peer)));
        Self { pause: PAUSE_OF_PROGRAMS, ..row }
    }

    fn of(time: Time, ours: Side, round: Duration) -> Self {
        Self { time, scale: None, ours, peers: Vec::new(), round, pause: Duration::ZERO }
    }

    /// Gives the time of each of `count` things that a call handles: leaves, steps, samples.
    pub(crate) fn per(self, count: usize, what: &'static str) -> Self {
        Self { scale: Some((count.max(1) as f64, what)), ..self }
    }

    /// What does the same elsewhere, measured in alternation with ours.
    pub(crate) fn against(mut self, name: &str, peer: impl FnMut() -> Outcome + 'static) -> Self {
        self.peers.push((name.to_owned(), Side::here(peer)));
        self
    }

    /// A program that does the same, and gives its own times for each of what a call handles.
    pub(crate) fn against_program(mut self, name: &str, program: Program) -> Self {
        self.peers.push((name.to_owned(), Side::Program(program)));
        self
    }

    fn unit(&self) -> String {
        let time = match self.time {
            Time::Nanoseconds => "ns",
            Time::Microseconds => "us",
            Time::Milliseconds => "ms",
        };
        match self.scale {
            Some((_, what)) => format!("{time}/{what}"),
            None => time.to_owned(),
        }
    }

    /// Seconds of a call for each of what it handles.
    fn for_each(&self, seconds: f64) -> f64 {
        seconds / self.scale.map_or(1.0, |(count, _)| count)
    }

    fn in_unit(&self, seconds: f64) -> f64 {
        seconds
            * match self.time {
                Time::Nanoseconds => 1e9,
                Time::Microseconds => 1e6,
                Time::Milliseconds => 1e3,
            }
    }
}

/// What was measured of a row and one of its peers, as it stands in the results file. Lower is better.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) ours: f64,
    /// `None`, as everything of the peer, unless it ran in this run.
    pub(crate) peer: Option<f64>,
    pub(crate) peer_name: Option<String>,
    pub(crate) unit: String,
    /// Ours by the peer's.
    pub(crate) ratio: Option<f64>,
    /// How much two threads did of what one does, right before the row.
    pub(crate) scaling: f64,
}

/// The rows whose names begin with a prefix. An error that lists every name if there is none.
pub(crate) fn select(entries: Vec<Entry>, prefix: &str) -> Outcome<Vec<Entry>> {
    let (selected, others): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| entry.name.starts_with(prefix));
    if selected.is_empty() {
        let names: Vec<_> = others.iter().map(|entry| format!("\n  {}", entry.name)).collect();
        return Err(format!("no row begins with {prefix:?}; the rows are:{}", names.concat()).into());
    }
    Ok(selected)
}

/// Sets up and measures each row.
pub(crate) fn run(entries: Vec<Entry>) -> Outcome<Vec<Measured>> {
    let mut measured = Vec::with_capacity(entries.len());
    for Entry { name, build } in entries {
        eprintln!("measuring {name}");
        let failed = |error| format!("{name}: {error}");
        let row = match build() {
            Ok(row) => row,
            Err(error) if error.is::<Skipped>() => {
                eprintln!("  not measured: {error}");
                continue;
            }
            Err(error) => return Err(failed(error).into()),
        };
        measured.extend(measure(row, &name).map_err(failed)?);
    }
    Ok(measured)
}

/// Rounds of each side; odd, so that the median is one of them.
const ROUNDS: usize = 7;

const ROUND: Duration = Duration::from_millis(40);
const ROUND_OF_PROGRAMS: Duration = Duration::from_millis(300);
const PAUSE_OF_PROGRAMS: Duration = Duration::from_millis(300);

/// One entry a peer, or one alone.
fn measure(mut row: Row, name: &str) -> Outcome<Vec<Measured>> {
    let Row { round, pause, .. } = row;
    let mut ours = std::mem::replace(&mut row.ours, Side::here(|| Ok(())));
    let mut peers = std::mem::take(&mut row.peers);
    ours.prepare(round)?;
    for (_, peer) in &mut peers {
        peer.prepare(round)?;
    }
    // Threads of a program may wait awake for a while after its last step.
    std::thread::sleep(pause);
    let scaling = probe::two_thread_scaling();
    let (mut our_seconds, mut theirs) = (Vec::new(), vec![Vec::new(); peers.len()]);
    let side = |side: &mut Side| {
        std::thread::sleep(pause);
        side.round(round, |seconds| row.for_each(seconds))
    };
    for _ in 0..ROUNDS {
        our_seconds.push(side(&mut ours)?);
        for ((_, peer), seconds) in peers.iter_mut().zip(&mut theirs) {
            seconds.push(side(peer)?);
        }
    }
    let ours = row.in_unit(median(our_seconds).ok_or("no round was run")?);
    let measured = |peer: Option<f64>, peer_name: Option<String>| Measured {
        name: name.to_owned(),
        ours,
        peer,
        unit: row.unit(),
        peer_name,
        ratio: peer.map(|peer| ours / peer),
        scaling,
    };
    if peers.is_empty() {
        return Ok(vec![measured(None, None)]);
    }
    let sides = peers.into_iter().zip(theirs);
    Ok(sides
        .map(|((name, _), seconds)| measured(median(seconds).map(|seconds| row.in_unit(seconds)), Some(name)))
        .collect())
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn median_is_the_middle_or_between_the_middle_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    fn entries() -> Vec<Entry> {
        ["graph/split/list1000", "graph/merge/list1000", "vars/read"]
            .map(|name| Entry::new(name, || Err("not selected rows must not be built".into())))
            .into()
    }

    fn check(prefix: &str, expected: &[&str]) {
        let selected = select(entries(), prefix).unwrap();
        let names: Vec<_> = selected.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn selects_by_prefix() {
        check("", &["graph/split/list1000", "graph/merge/list1000", "vars/read"]);
        check("graph/", &["graph/split/list1000", "graph/merge/list1000"]);
        check("vars/read", &["vars/read"]);
    }

    #[test]
    fn a_name_that_matches_nothing_lists_the_rows() {
        let error = select(entries(), "split").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("\"split\""), "{error}");
        for entry in entries() {
            assert!(error.contains(&entry.name), "{error}");
        }
    }

    #[test]
    fn an_error_names_its_row() {
        let error = run(entries()).unwrap_err().to_string();
        assert!(error.starts_with("graph/split/list1000: "), "{error}");
    }

    #[test]
    fn a_row_that_is_skipped_leaves_the_others() {
        let skipped = Entry::new("train/mlp/other", || Err(Skipped("there is no other".to_owned()).into()));
        let quick = Entry::new("a/b", || Ok(Row::new(Time::Nanoseconds, || Ok(()))));
        let measured = run(vec![skipped, quick]).unwrap();
        let names: Vec<_> = measured.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["a/b"]);
    }

    #[test]
    fn sides_alternate_and_the_ratio_is_ours_by_the_peers() {
        let calls = Rc::new(RefCell::new(String::new()));
        let side = |letter, milliseconds| {
            let calls = calls.clone();
            move || {
                calls.borrow_mut().push(letter);
                std::thread::sleep(Duration::from_millis(milliseconds));
                Ok(())
            }
        };
        let row = Row::new(Time::Milliseconds, side('o', 4)).per(2, "half").against("other", side('p', 16));
        let row = Row { round: Duration::from_millis(1), ..row };
        let measured = measure(row, "a/b").unwrap().remove(0);
        let rounds = "op".repeat(ROUNDS);
        assert!(calls.borrow().ends_with(&rounds), "{calls:?}");
        assert_eq!((measured.unit.as_str(), measured.peer_name.as_deref()), ("ms/half", Some("other")));
        let ratio = measured.ratio.unwrap();
        assert_eq!(ratio, measured.ours / measured.peer.unwrap());
        assert!(ratio < 1.0, "{measured:?}");
        assert!(measured.ours >= 2.0, "{measured:?}");
    }
}
