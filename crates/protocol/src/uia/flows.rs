//! Stages and the orders in which they may be completed.

/// A kind of proof that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Password,
    /// Asks nothing: an open registration, or the end of a flow that another one begins with.
    Dummy,
    RegistrationToken,
    EmailIdentity,
    Msisdn,
    Terms,
    Recaptcha,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 7] = [
        Self::Password,
        Self::Dummy,
        Self::RegistrationToken,
        Self::EmailIdentity,
        Self::Msisdn,
        Self::Terms,
        Self::Recaptcha,
    ];

    /// The authentication type of the specification.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "m.login.password",
            Self::Dummy => "m.login.dummy",
            Self::RegistrationToken => "m.login.registration_token",
            Self::EmailIdentity => "m.login.email.identity",
            Self::Msisdn => "m.login.msisdn",
            Self::Terms => "m.login.terms",
            Self::Recaptcha => "m.login.recaptcha",
        }
    }

    /// Reads an authentication type; `None` for types that this server does not know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }
}

/// Stages to be completed in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow(Vec<Stage>);

impl Flow {
    /// The stages, at least one.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.0
    }
}

/// The flows a person may choose from. None of them begins with the whole of another, so the
/// stages completed so far always tell whether a flow is finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flows(Vec<Flow>);

impl Flows {
    /// One flow of one stage.
    #[must_use]
    pub fn one(stage: Stage) -> Self {
        Self(vec![Flow(vec![stage])])
    }

    /// Flows from lists of stages. Where one list begins another, the shorter ends in
    /// [`Stage::Dummy`] (the specification names this use of it), or choosing the longer would
    /// be impossible. `None` without a flow, for a flow without a stage or with one twice, and
    /// where the dummy stage cannot tell two flows apart.
    #[must_use]
    pub fn new(lists: Vec<Vec<Stage>>) -> Option<Self> {
        let once = |list: &Vec<Stage>| list.iter().enumerate().all(|(i, stage)| !list[..i].contains(stage));
        if lists.is_empty() || lists.iter().any(Vec::is_empty) || !lists.iter().all(once) {
            return None;
        }
        let begins_another =
            |list: &[Stage]| lists.iter().any(|other| other.len() > list.len() && other.starts_with(list));
        let mut flows: Vec<Flow> = Vec::new();
        for list in &lists {
            let mut stages = list.clone();
            if begins_another(list) {
                stages.push(Stage::Dummy);
                if list.contains(&Stage::Dummy) || begins_another(&stages) {
                    return None;
                }
            }
            if !flows.iter().any(|flow| flow.0 == stages) {
                flows.push(Flow(stages));
            }
        }
        Some(Self(flows))
    }

    /// The flows, as the `flows` of an answer.
    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.0.iter()
    }

    /// Whether some flow begins with these stages.
    pub(super) fn begin_with(&self, completed: &[Stage]) -> bool {
        self.0.iter().any(|flow| flow.0.starts_with(completed))
    }

    /// Whether these stages are the whole of a flow.
    pub(super) fn end_with(&self, completed: &[Stage]) -> bool {
        self.0.iter().any(|flow| flow.0 == completed)
    }

    /// The stages that may follow these.
    pub(super) fn next<'a>(&'a self, completed: &'a [Stage]) -> impl Iterator<Item = Stage> + 'a {
        self.0.iter().filter_map(move |flow| flow.0.strip_prefix(completed)?.first().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::Stage::{Dummy, Password, RegistrationToken};
    use super::*;

    fn lists(flows: &Flows) -> Vec<&[Stage]> {
        flows.iter().map(Flow::stages).collect()
    }

    #[test]
    fn stages_are_named_as_in_the_specification() {
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.as_str()), Some(stage));
        }
        assert_eq!(Stage::parse("m.login.token"), None);
    }

    #[test]
    fn a_flow_that_another_begins_with_ends_in_a_dummy() {
        let flows = Flows::new(vec![vec![Password], vec![Password, RegistrationToken]]).unwrap();
        assert_eq!(lists(&flows), [&[Password, Dummy][..], &[Password, RegistrationToken]]);
        let apart = Flows::new(vec![vec![Password], vec![RegistrationToken, Password]]).unwrap();
        assert_eq!(lists(&apart), [&[Password][..], &[RegistrationToken, Password]]);
        let same = Flows::new(vec![vec![Password], vec![Password, Dummy], vec![Password]]).unwrap();
        assert_eq!(lists(&same), [&[Password, Dummy][..]]);
    }

    #[test]
    fn flows_that_say_nothing_or_cannot_be_told_apart_are_refused() {
        for lists in [
            vec![],
            vec![vec![]],
            vec![vec![Password, Password]],
            vec![vec![Dummy], vec![Dummy, Password]],
            vec![vec![Password], vec![Password, Dummy, RegistrationToken]],
        ] {
            assert_eq!(Flows::new(lists), None);
        }
    }
}
