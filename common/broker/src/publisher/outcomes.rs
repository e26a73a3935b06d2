//! The outcomes of messages that are in flight together on one channel. Pure.
//!
//! RabbitMQ returns a message that no queue takes before it confirms it. lapin queues the returned
//! messages of a channel and attaches one to each confirm that follows, whichever message that
//! confirms. So a message's return is on its own confirm or on an earlier one, unless its own
//! carries another's: then it may be on a later one, at the latest on the last confirm of the
//! messages that were in flight by then, since every message in lapin's queue has yet to be
//! confirmed.

use std::collections::BTreeMap;

use lapin::message::BasicReturnMessage;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A queue has it, or it need not be in one.
    Arrived,
    /// No queue takes it.
    Returned,
    /// The broker sent a nack.
    Refused,
}

impl Outcome {
    fn new(is_ack: bool, is_returned: bool) -> Self {
        match (is_ack, is_returned) {
            (_, true) => Self::Returned,
            (true, false) => Self::Arrived,
            (false, false) => Self::Refused,
        }
    }
}

/// What identifies a returned message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) message_id: Option<String>,
}

impl From<&BasicReturnMessage> for Address {
    fn from(message: &BasicReturnMessage) -> Self {
        let id = message.properties.message_id().as_ref();
        Self {
            exchange: message.exchange.to_string(),
            routing_key: message.routing_key.to_string(),
            message_id: id.map(ToString::to_string),
        }
    }
}

/// The broker's confirm of a message.
#[derive(Debug)]
pub(super) struct Confirm {
    /// Whether it is an ack, or a nack; an error if the channel was closed instead.
    pub(super) is_ack: lapin::Result<bool>,
    /// The returned message that lapin attached to it.
    pub(super) returned: Option<Address>,
}

impl Confirm {
    /// Returns the outcome of the only message in flight on its channel. A returned message is
    /// acked all the same.
    pub(super) fn outcome(self) -> lapin::Result<Outcome> {
        let is_returned = self.returned.is_some();
        self.is_ack.map(|is_ack| Outcome::new(is_ack, is_returned))
    }
}

/// The number of a message, in the order of their publishes.
pub(super) type Number = u64;

/// The messages in flight; `W`: who waits for an outcome.
#[derive(Debug)]
pub(super) struct Outcomes<W> {
    next: Number,
    in_flight: BTreeMap<Number, InFlight<W>>,
    /// Those in flight whose confirm came.
    confirmed: Vec<Number>,
}

#[derive(Debug)]
struct InFlight<W> {
    address: Address,
    waiter: W,
    is_ack: Option<lapin::Result<bool>>,
    is_returned: bool,
    /// Its confirm carried another's return: its own may follow until the confirms of all messages
    /// before this number came.
    may_return_until: Option<Number>,
}

impl<W> Default for Outcomes<W> {
    fn default() -> Self {
        Self {
            next: 0,
            in_flight: BTreeMap::new(),
            confirmed: Vec::new(),
        }
    }
}

impl<W> Outcomes<W> {
    /// Adds a published message. Returns its number.
    pub(super) fn published(&mut self, address: Address, waiter: W) -> Number {
        let number = self.next;
        self.next += 1;
        let in_flight = InFlight {
            address,
            waiter,
            is_ack: None,
            is_returned: false,
            may_return_until: None,
        };
        self.in_flight.insert(number, in_flight);
        number
    }

    /// Notes the confirm of a message.
    pub(super) fn confirmed(&mut self, number: Number, confirm: Confirm) {
        let returned = confirm.returned.as_ref();
        let carries_other = returned.is_some_and(|address| !self.mark_returned(number, address));
        if let Some(message) = self.in_flight.get_mut(&number) {
            message.is_ack = Some(confirm.is_ack);
            message.may_return_until = carries_other.then_some(self.next);
            self.confirmed.push(number);
        }
    }

    /// Marks the returned message: of equal ones that of this confirm, otherwise the first.
    /// Returns whether it is that of this confirm.
    fn mark_returned(&mut self, number: Number, address: &Address) -> bool {
        let could_be = |message: &InFlight<W>| !message.is_returned && message.address == *address;
        let own = self.in_flight.get(&number).is_some_and(could_be);
        let first = || self.in_flight.iter().find(|(_, message)| could_be(message));
        let returned = match own {
            true => Some(number),
            false => first().map(|(first, _)| *first),
        };
        if let Some(message) = returned.and_then(|returned| self.in_flight.get_mut(&returned)) {
            message.is_returned = true;
        }
        own
    }

    /// Removes and returns the messages whose outcome is certain. To be called once all confirms
    /// that have come are noted.
    pub(super) fn settle(&mut self) -> Vec<(W, lapin::Result<Outcome>)> {
        let confirmed = std::mem::take(&mut self.confirmed);
        let (uncertain, certain) = confirmed
            .into_iter()
            .partition(|number| self.is_uncertain(*number));
        self.confirmed = uncertain;
        let settled = certain.into_iter().filter_map(|number: Number| {
            let message = self.in_flight.remove(&number)?;
            let is_returned = message.is_returned;
            let outcome = message
                .is_ack?
                .map(|is_ack| Outcome::new(is_ack, is_returned));
            Some((message.waiter, outcome))
        });
        settled.collect()
    }

    /// Returns whether a confirmed message may be returned yet.
    fn is_uncertain(&self, number: Number) -> bool {
        let Some(message) = self.in_flight.get(&number) else {
            return false;
        };
        let Some(until) = message.may_return_until.filter(|_| !message.is_returned) else {
            return false;
        };
        let mut before = self.in_flight.range(..until);
        before.any(|(_, message)| message.is_ack.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(routing_key: &str) -> Address {
        Address {
            exchange: String::new(),
            routing_key: routing_key.to_owned(),
            message_id: None,
        }
    }

    /// Publishes a message to each queue, which is also who waits for it.
    fn in_flight<'a>(queues: &[&'a str]) -> Outcomes<&'a str> {
        let mut outcomes = Outcomes::default();
        for queue in queues {
            outcomes.published(to(queue), *queue);
        }
        outcomes
    }

    fn ack(returned: Option<&str>) -> Confirm {
        Confirm {
            is_ack: Ok(true),
            returned: returned.map(to),
        }
    }

    fn settled<'a>(outcomes: &mut Outcomes<&'a str>) -> Vec<(&'a str, Outcome)> {
        let settled = outcomes.settle().into_iter();
        settled
            .map(|(to, outcome)| (to, outcome.unwrap()))
            .collect()
    }

    #[test]
    fn a_return_on_another_messages_confirm_counts_for_its_own() {
        let mut outcomes = in_flight(&["there", "nowhere"]);
        outcomes.confirmed(0, ack(Some("nowhere")));
        outcomes.confirmed(1, ack(None));
        let expected = [("there", Outcome::Arrived), ("nowhere", Outcome::Returned)];
        assert_eq!(settled(&mut outcomes), expected);
    }

    #[test]
    fn a_message_whose_confirm_carries_anothers_return_waits_for_its_own() {
        let mut outcomes = in_flight(&["nowhere", "void", "there"]);
        outcomes.confirmed(1, ack(Some("nowhere")));
        assert_eq!(settled(&mut outcomes), []);
        outcomes.published(to("later"), "later");
        outcomes.confirmed(2, ack(Some("void")));
        assert_eq!(settled(&mut outcomes), [("void", Outcome::Returned)]);
        outcomes.confirmed(0, ack(None));
        assert_eq!(settled(&mut outcomes), [("nowhere", Outcome::Returned)]);
        outcomes.confirmed(3, ack(None));
        let expected = [("there", Outcome::Arrived), ("later", Outcome::Arrived)];
        assert_eq!(settled(&mut outcomes), expected);
    }

    #[test]
    fn a_later_publish_delays_no_outcome() {
        let mut outcomes = in_flight(&["there", "nowhere"]);
        outcomes.confirmed(0, ack(Some("nowhere")));
        outcomes.published(to("later"), "later");
        outcomes.confirmed(1, ack(None));
        let expected = [("there", Outcome::Arrived), ("nowhere", Outcome::Returned)];
        assert_eq!(settled(&mut outcomes), expected);
    }

    #[test]
    fn a_nack_is_a_refusal_and_a_closed_channel_an_error() {
        let mut outcomes = in_flight(&["full", "there"]);
        let nack = Confirm {
            is_ack: Ok(false),
            returned: None,
        };
        outcomes.confirmed(0, nack);
        assert_eq!(settled(&mut outcomes), [("full", Outcome::Refused)]);
        let closed = Confirm {
            is_ack: Err(lapin::ErrorKind::MissingHeartbeatError.into()),
            returned: None,
        };
        outcomes.confirmed(1, closed);
        assert!(
            outcomes
                .settle()
                .iter()
                .all(|(_, outcome)| outcome.is_err())
        );
    }
}
