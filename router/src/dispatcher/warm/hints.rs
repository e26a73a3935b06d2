//! Numbers for hints, as the policy uses them. Submitters choose hints freely, so numbers of unused
//! hints are reused.

use std::collections::HashMap;

use warmq_types::hint::Hint;

use warmq_policy::warm::Model;

/// Number of hints above which unused ones are swept.
const SWEEP_THRESHOLD: usize = 10_000;

#[derive(Debug)]
pub(super) struct Hints {
    numbers: HashMap<Hint, Model>,
    names: Vec<Option<Hint>>,
    spare: Vec<Model>,
    sweep_at: usize,
}

impl Default for Hints {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            names: Vec::new(),
            spare: Vec::new(),
            sweep_at: SWEEP_THRESHOLD,
        }
    }
}

impl Hints {
    /// Returns the number of a hint, assigning one if necessary.
    pub(super) fn number(&mut self, hint: &Hint) -> Model {
        if let Some(number) = self.numbers.get(hint) {
            return *number;
        }
        let number = self.spare.pop().unwrap_or_else(|| {
            self.names.push(None);
            Model(self.names.len() as u32 - 1)
        });
        self.names[number.0 as usize] = Some(hint.clone());
        self.numbers.insert(hint.clone(), number);
        number
    }

    /// Returns the hint of a number.
    pub(super) fn name(&self, number: Model) -> Option<&Hint> {
        self.names.get(number.0 as usize)?.as_ref()
    }

    /// Above the threshold, releases the numbers that `forget` accepts. Returns their hints.
    pub(super) fn sweep(&mut self, mut forget: impl FnMut(Model) -> bool) -> Vec<Hint> {
        if self.numbers.len() < self.sweep_at {
            return Vec::new();
        }
        let forgotten: Vec<Hint> = self
            .numbers
            .extract_if(|_, number| forget(*number))
            .map(|(hint, number)| {
                self.names[number.0 as usize] = None;
                self.spare.push(number);
                hint
            })
            .collect();
        self.sweep_at = SWEEP_THRESHOLD.max(2 * self.numbers.len());
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(number: usize) -> Hint {
        Hint::parse(&format!("m{number}")).unwrap()
    }

    #[test]
    fn unused_numbers_are_reused() {
        let mut hints = Hints::default();
        for number in 0..SWEEP_THRESHOLD {
            assert_eq!(hints.number(&hint(number)), Model(number as u32));
            assert_eq!(hints.number(&hint(number)), Model(number as u32));
        }
        let forgotten = hints.sweep(|model| model.0 % 2 == 1);
        assert_eq!(forgotten.len(), SWEEP_THRESHOLD / 2);
        assert_eq!(hints.name(Model(1)), None);
        let again = hints.number(&hint(SWEEP_THRESHOLD));
        assert_eq!(again.0 % 2, 1);
        assert_eq!(hints.name(again), Some(&hint(SWEEP_THRESHOLD)));
        assert!(hints.sweep(|_| true).is_empty(), "swept too early");
    }
}
