//! Relative frequency of the types of events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The weights of the five types of events, and the choice of pairs for unfollows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Mix {
    name: String,
    pub(crate) weights: Weights,
    /// Unfollows end existing follows; otherwise they name any two users.
    pub(crate) ends_existing_follows: bool,
}

/// Weights in the order of their text form, `F:U:B:P:S`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    pub(crate) follow: u32,
    pub(crate) unfollow: u32,
    pub(crate) broadcast: u32,
    pub(crate) private: u32,
    pub(crate) status: u32,
}

impl Weights {
    const fn new([follow, unfollow, broadcast, private, status]: [u32; 5]) -> Weights {
        Weights { follow, unfollow, broadcast, private, status }
    }

    pub(crate) fn total(self) -> u64 {
        [self.follow, self.unfollow, self.broadcast, self.private, self.status]
            .into_iter()
            .map(u64::from)
            .sum()
    }
}

/// The named mixes. `verification` is that of the original verification program, with few follows
/// at any time. `dense` has the same weights, but unfollows name any two users, so the graph grows.
/// `feed` is many posts to many followers.
const NAMED: [(&str, Weights); 6] = [
    ("verification", Weights::new([1500, 1500, 1, 1500, 5499])),
    ("dense", Weights::new([1500, 1500, 1, 1500, 5499])),
    ("even", Weights::new([1, 1, 1, 1, 1])),
    ("private", Weights::new([0, 0, 0, 1, 0])),
    ("broadcast", Weights::new([0, 0, 1, 0, 0])),
    ("feed", Weights::new([10, 1, 0, 9, 80])),
];

impl Mix {
    /// The mix of the original verification program.
    pub(crate) fn verification() -> Mix {
        let (name, weights) = NAMED[0];
        Mix { name: name.to_owned(), weights, ends_existing_follows: true }
    }

    /// Returns the names that [`Mix::from_str`] accepts.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl From<Mix> for String {
    fn from(mix: Mix) -> String {
        mix.name
    }
}

impl TryFrom<String> for Mix {
    type Error = String;

    fn try_from(text: String) -> Result<Mix, String> {
        text.parse()
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let verification = Mix::verification();
        if text == verification.name {
            return Ok(verification);
        }
        let named = NAMED.iter().find(|(name, _)| *name == text).map(|(_, weights)| *weights);
        let Some(weights) = named.or_else(|| read_weights(text)) else {
            let names: Vec<&str> = Mix::names().collect();
            return Err(format!(
                "expected one of {}, or weights F:U:B:P:S, each from 0 to {} and not all of them 0",
                names.join(", "),
                u32::MAX
            ));
        };
        Ok(Mix { name: text.to_owned(), weights, ends_existing_follows: false })
    }
}

fn read_weights(text: &str) -> Option<Weights> {
    let numbers: Vec<u32> = text.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let weights = Weights::new(numbers.try_into().ok()?);
    (weights.total() > 0).then_some(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_by_name_and_by_weights() {
        assert!("verification".parse::<Mix>().unwrap().ends_existing_follows);
        assert_eq!("feed".parse::<Mix>().unwrap().weights.status, 80);
        let weights = "1:2:3:4:5".parse::<Mix>().unwrap().weights;
        assert_eq!(weights, Weights::new([1, 2, 3, 4, 5]));
        for text in ["", "1:2:3:4", "0:0:0:0:0", "1:2:3:4:x", "-1:2:3:4:5", "best"] {
            assert!(text.parse::<Mix>().unwrap_err().contains("F:U:B:P:S"), "{text}");
        }
    }
}
