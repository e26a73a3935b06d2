//! A strict parser of Prometheus' text format, stricter than any scraper.

use std::collections::BTreeMap;

/// Samples by name and labels.
#[derive(Debug)]
pub struct Page(BTreeMap<Series, f64>);

/// A metric's name and its labels.
type Series = (String, BTreeMap<String, String>);

impl Page {
    /// Parses a page. Panics on a line that is neither comment nor sample, and on a repeated
    /// series.
    pub fn read(text: &str) -> Self {
        let mut samples = BTreeMap::new();
        for line in text.split('\n') {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (series, value) = sample(line).unwrap_or_else(|| panic!("no sample: {line}"));
            assert_eq!(samples.insert(series, value), None, "twice: {line}");
        }
        Self(samples)
    }

    /// Returns the value of the series with exactly these labels.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let labels = labels.iter().map(owned).collect();
        self.0.get(&(name.to_owned(), labels)).copied()
    }

    /// Returns the values of a metric by one of its labels.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let series = self.0.iter().filter(|((found, _), _)| found == name);
        series
            .map(|((_, labels), value)| (labels[label].clone(), *value))
            .collect()
    }
}

/// `name{label="value",...} 1`
fn sample(line: &str) -> Option<(Series, f64)> {
    let (name, mut rest) = name(line)?;
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = self::name(rest)?;
            let (value, after) = quoted(after.strip_prefix('=')?)?;
            labels.insert(label.to_owned(), value);
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None => {
                    rest = after.strip_prefix('}')?;
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    Some(((name.to_owned(), labels), value))
}

fn name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')?;
    Some(text.split_at(end)).filter(|(name, _)| !name.is_empty())
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.strip_prefix('"')?.chars();
    loop {
        match letters.next()? {
            '"' => return Some((value, letters.as_str())),
            '\\' => value.push(match letters.next()? {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            letter => value.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unescaped() {
        let page = Page::read("# TYPE a counter\na{x=\"1\\\\\\\"\\n,}\",y=\"\"} 2\n\nb 0.5\n");
        assert_eq!(page.get("a", &[("x", "1\\\"\n,}"), ("y", "")]), Some(2.0));
        assert_eq!(page.get("b", &[]), Some(0.5));
        for wrong in ["a{x=\"1} 2", "a{x=\"\\t\"} 2", "a{x=1} 2", "a", "a{} x"] {
            assert_eq!(sample(wrong), None, "{wrong}");
        }
    }
}
