//! The hints of a model server: what its responses report, and what the runners report to the
//! dispatcher.

use warmq_types::hint::Hint;
use warmq_types::text::utf8_or_latin1;

/// Number of hints that a runner reports at most; further ones are ignored.
const MAX_HINTS: usize = 256;

/// The hints of a server that all runners of a worker share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Hints {
    /// The server has not reported hints. Its runner reports the hint that it served last.
    #[default]
    Unreported,
    /// As above, after a job with a hint.
    Served(Hint),
    /// The latest report.
    Reported(Vec<Hint>),
}

impl Hints {
    /// Returns the current hints.
    pub(super) fn current(&self) -> &[Hint] {
        match self {
            Self::Unreported => &[],
            Self::Served(hint) => std::slice::from_ref(hint),
            Self::Reported(hints) => hints,
        }
    }

    /// Takes the hints of a response into account: `reported` if it has any, otherwise `served`,
    /// the hint of the job that succeeded.
    pub(super) fn observe(&mut self, reported: Option<Vec<Hint>>, served: Option<&Hint>) {
        match (reported, served) {
            (Some(hints), _) => *self = Self::Reported(hints),
            // An error page of a proxy has no hints, either.
            (None, _) if matches!(self, Self::Reported(_)) => {}
            (None, Some(hint)) => *self = Self::Served(hint.clone()),
            (None, None) => {}
        }
    }
}

/// Parses the values of the header: joined by commas, in UTF-8, or in Latin-1 as Python's servers
/// write it. An empty header means that nothing is loaded; `None`: there is no such header.
pub(super) fn from_headers<'h>(values: impl IntoIterator<Item = &'h [u8]>) -> Option<Vec<Hint>> {
    let texts: Vec<String> = values.into_iter().map(utf8_or_latin1).collect();
    match texts.is_empty() {
        true => None,
        false => Some(hints(texts.iter().flat_map(|text| text.split(',')))),
    }
}

/// Returns the valid ones of `names`, each once, in order, at most [`MAX_HINTS`].
pub(super) fn hints<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<Hint> {
    let mut found: Vec<Hint> = Vec::new();
    let mut ignored = 0_usize;
    for name in names
        .into_iter()
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        match Hint::parse(name) {
            Ok(hint) if found.contains(&hint) => {}
            Ok(hint) if found.len() < MAX_HINTS => found.push(hint),
            Ok(_) | Err(_) => ignored += 1,
        }
    }
    if ignored > 0 {
        tracing::warn!(
            ignored,
            "the model server reports more than {MAX_HINTS} hints, or hints of more than 256 bytes"
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &[u8]) -> Vec<String> {
        let hints = from_headers([header]).unwrap();
        hints.into_iter().map(String::from).collect()
    }

    #[test]
    fn hints_are_joined_by_commas_and_empty_means_none() {
        assert_eq!(parse(b"a, b ,,a"), ["a", "b"]);
        assert_eq!(parse(b""), [""; 0]);
        assert_eq!(from_headers([]), None);
        let twice = from_headers([b"a".as_slice(), b"b"]).unwrap();
        assert_eq!(twice.len(), 2, "a header may be repeated");
    }

    #[test]
    fn hints_in_latin_1_and_in_utf_8_are_decoded() {
        assert_eq!(parse(b"caf\xe9"), ["café"]);
        assert_eq!(parse("café,模型".as_bytes()), ["café", "模型"]);
    }

    #[test]
    fn ten_thousand_hints_and_long_ones_are_bounded() {
        let many: Vec<String> = (0..10_000).map(|number| format!("m{number}")).collect();
        assert_eq!(parse(many.join(",").as_bytes()).len(), MAX_HINTS);
        assert_eq!(parse(format!("{},b", "a".repeat(257)).as_bytes()), ["b"]);
    }

    #[test]
    fn a_server_without_hints_has_the_one_that_it_served_last() {
        let hint = |name: &str| Hint::parse(name).unwrap();
        let mut hints = Hints::default();
        hints.observe(None, None);
        assert!(hints.current().is_empty());
        hints.observe(None, Some(&hint("a")));
        hints.observe(None, None);
        assert_eq!(hints.current(), [hint("a")]);
        hints.observe(Some(vec![]), Some(&hint("a")));
        assert!(hints.current().is_empty(), "nothing is loaded");
        hints.observe(Some(vec![hint("b")]), None);
        hints.observe(None, Some(&hint("a")));
        assert_eq!(hints.current(), [hint("b")], "an error page has no hints");
    }
}
