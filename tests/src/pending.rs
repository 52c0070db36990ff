//! Cases that wait for a feature: they run like the others, and must fail until it is there.
//!
//! A case whose check asks for something by name (a layer, a class) passes once that name is given what it stands for; the run
//! then fails until the case is taken off the list.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_bridge::vars::Result;

/// Runs a check for each case, by name.
///
/// # Panics
/// If a case fails that is not among the `pending` ones, which are named with what they wait for; if one of these passes, so
/// that it is taken off the list when its feature is there; and if a name of the list is no case's.
#[allow(clippy::panic, clippy::print_stdout, reason = "a helper of tests fails by panicking")]
pub fn check_cases<'a, C>(
    cases: impl IntoIterator<Item = (&'a str, C)>,
    pending: &[(&str, &str)],
    check: impl Fn(&str, &C) -> Result<()>,
) -> usize {
    let (mut seen, mut problems, mut passed) = (BTreeSet::new(), Vec::new(), 0);
    for (name, case) in cases {
        seen.insert(name);
        // What a check finds wrong is a panic, as in any test.
        let outcome = match catch_unwind(AssertUnwindSafe(|| check(name, &case))) {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(_) => Err("it panicked, as printed above".to_owned()),
        };
        match (outcome, pending.iter().find(|(waiting, _)| *waiting == name)) {
            (Ok(()), None) => passed += 1,
            (Ok(()), Some((_, feature))) => {
                problems.push(format!("{name} passes: take it off the list of what waits for {feature}"));
            }
            (Err(error), None) => problems.push(format!("{name}: {error}")),
            (Err(_), Some((_, feature))) => println!("pending: {name} waits for {feature}"),
        }
    }
    for (name, _) in pending.iter().filter(|(name, _)| !seen.contains(name)) {
        problems.push(format!("{name} waits for a feature, but there is no such case"));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    passed
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_bridge::vars::Error;

    fn check(pending: &[(&str, &str)]) -> Result<usize, String> {
        let cases = [("good", Ok(())), ("bad", Err("not there"))];
        let run = || {
            check_cases(cases, pending, |_, outcome| match outcome {
                Ok(()) => Ok(()),
                Err(text) => Err(Error::new(std::io::Error::other(*text))),
            })
        };
        catch_unwind(AssertUnwindSafe(run))
            .map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    }

    #[test]
    fn a_pending_case_must_fail_and_all_others_pass() {
        assert_eq!(check(&[("bad", "a feature")]), Ok(1));
        assert!(check(&[]).unwrap_err().contains("bad: not there"));
        let passing = check(&[("bad", "a feature"), ("good", "another")]).unwrap_err();
        assert!(passing.contains("good passes: take it off the list of what waits for another"), "{passing}");
        assert!(check(&[("bad", ""), ("other", "")]).unwrap_err().contains("there is no such case"));
    }
}
