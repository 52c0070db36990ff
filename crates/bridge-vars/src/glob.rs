use std::fmt;

use crate::{Path, PathKey};

/// A pattern of paths: `encoder.*.kernel`, `**.bias`, `layers.1?.norm`.
///
/// It is compared step by step. `*` stands for any text within a step, `?` for one character of it, and a step `**` for
/// any number of steps, none among them. An index is compared as it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Any number of steps.
    Any,
    One(Vec<char>),
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        let mut steps = Vec::new();
        let mut step: Vec<char> = Vec::new();
        let mut chars = pattern.chars().peekable();
        let mut finish = |step: &mut Vec<char>| {
            let step = std::mem::take(step);
            steps.push(if step == ['*', '*'] { Step::Any } else { Step::One(step) });
        };
        while let Some(char) = chars.next() {
            match char {
                '.' => finish(&mut step),
                // As a path prints a dot or a backslash in a name, and a name of digits.
                '\\' => step.extend(chars.next_if(|next| matches!(next, '.' | '\\'))),
                _ => step.push(char),
            }
        }
        if !pattern.is_empty() {
            finish(&mut step);
        }
        Self(steps)
    }

    pub(crate) fn matches(&self, path: &Path) -> bool {
        let texts: Vec<Vec<char>> = path
            .keys()
            .iter()
            .map(|key| match key {
                PathKey::Name(name) => name.chars().collect(),
                PathKey::Index(index) => index.to_string().chars().collect(),
            })
            .collect();
        let one = |step: &Step, text: &Vec<char>| match step {
            Step::One(pattern) => wildcard(pattern, text, |c| *c == '*', |p, c| *p == '?' || p == c),
            Step::Any => true,
        };
        wildcard(&self.0, &texts, |step| *step == Step::Any, one)
    }
}

/// Whether a pattern covers all items, where some of its parts stand for any number of them. Takes at most the product
/// of both lengths.
fn wildcard<P, T>(
    pattern: &[P],
    items: &[T],
    is_any: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut i) = (0, 0);
    // Where to go on if the last part that stands for many takes one more.
    let mut again: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), items.get(i)) {
            (None, None) => return true,
            (Some(part), _) if is_any(part) => {
                again = Some((p, i));
                p += 1;
            }
            (Some(part), Some(item)) if fits(part, item) => {
                p += 1;
                i += 1;
            }
            _ => match again {
                Some((any, from)) if from < items.len() => {
                    again = Some((any, from + 1));
                    p = any + 1;
                    i = from + 1;
                }
                _ => return false,
            },
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            match step {
                Step::Any => f.write_str("**")?,
                Step::One(text) => text.iter().try_for_each(|char| match char {
                    '.' | '\\' => write!(f, "\\{char}"),
                    char => write!(f, "{char}"),
                })?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_and_texts() {
        let check = |pattern: &str, path: &str, expected: bool| {
            assert_eq!(Glob::new(pattern).matches(&Path::from(path)), expected, "{pattern} on {path}");
            assert_eq!(Glob::new(pattern).to_string(), pattern);
        };
        check("encoder.*.kernel", "encoder.3.kernel", true);
        check("encoder.*.kernel", "encoder.3.4.kernel", false);
        check("encoder.**.kernel", "encoder.3.4.kernel", true);
        check("encoder.**.kernel", "encoder.kernel", true);
        check("encoder.**.kernel", "decoder.kernel", false);
        check("**.bias", "bias", true);
        check(r"a\.b.*", r"a\.b.kernel", true);
        check(r"a\.b.*", "a.b.kernel", false);
        check("**", "", true);
        check("", "", true);
        check("", "a", false);
        check("layers.1?.norm*", "layers.12.norm_out", true);
        check("layers.1?.norm*", "layers.1.norm_out", false);
        check("a.**.b.**.c", "a.b.b.x.c.c", true);
        check("a.**.b.**.c", "a.b.b.x.c.d", false);
        check("*ab*b", "aabab", true);
        check("*ab*b", "abba", false);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?]{0,6}", text in "[ab]{0,8}") {
            fn defined(pattern: &[char], text: &[char]) -> bool {
                match (pattern, text) {
                    ([], rest) => rest.is_empty(),
                    (['*', more @ ..], _) => (0..=text.len()).any(|from| defined(more, &text[from..])),
                    (['?', more @ ..], [_, rest @ ..]) => defined(more, rest),
                    ([p, more @ ..], [c, rest @ ..]) => p == c && defined(more, rest),
                    _ => false,
                }
            }
            let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            let found = wildcard(&pattern, &text, |p| *p == '*', |p, c| *p == '?' || p == c);
            prop_assert_eq!(found, defined(&pattern, &text));
        }
    }
}
