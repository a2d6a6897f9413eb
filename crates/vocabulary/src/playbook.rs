//! A playbook: what to do when something was found. On disk: `playbooks/NAME.toml`. Who carries it out is not known here.

use crate::finding::{FindingKind, Severity};
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// Steps of one playbook at most: a judgement; what needs more is several playbooks.
pub const STEPS_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Playbook {
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub when: When,
    #[serde(rename = "do")]
    pub steps: Vec<PlaybookStep>,
    /// What takes the steps back once the finding is no longer true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<PlaybookStep>,
    #[serde(default)]
    pub limits: Limits,
}

/// A finding starts the playbook when all of this holds for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Kinds of findings; any alarm when empty.
    pub findings: Vec<FindingKind>,
    /// Kinds of causes such as `unit_change`, or words of the finding's message or subject; any when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// At least this severe.
    pub severity: Severity,
    /// Models; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// The finding has been true for this long.
    #[serde(rename = "for")]
    pub lasting: Span,
    /// The live version went live at most this long before the finding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_within: Option<Span>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaybookStep {
    pub step: Action,
    /// Time after the playbook began, if the finding is still true; in `undo` time after it no longer was.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: Span,
    /// For `shed`: tenants whose weight is below this are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_below: Option<f64>,
}

fn is_zero(span: &Span) -> bool {
    *span == Span(0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Tells the receivers of alerts.
    Notify,
    /// Tells them that a person has to look at once.
    Page,
    /// Stops retraining.
    Freeze,
    Thaw,
    /// Back to the version that was live before.
    RollBack,
    /// Back to the version that was live before, or where there is none to the first one.
    FallBack,
    /// The canary goes back into shadow.
    PauseCanary,
    /// The candidate's trial ends.
    Discard,
    Retrain,
    /// Refuses the requests of tenants of less weight.
    Shed,
    /// Takes everybody's requests again.
    AdmitAll,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Notify => "notify",
            Action::Page => "page",
            Action::Freeze => "freeze",
            Action::Thaw => "thaw",
            Action::RollBack => "roll_back",
            Action::FallBack => "fall_back",
            Action::PauseCanary => "pause_canary",
            Action::Discard => "discard",
            Action::Retrain => "retrain",
            Action::Shed => "shed",
            Action::AdmitAll => "admit_all",
        }
    }

    /// Whether it changes who answers.
    pub fn is_risky(self) -> bool {
        matches!(self, Action::RollBack | Action::FallBack | Action::PauseCanary)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Not again within this time of its last beginning.
    pub cool_down: Span,
    /// Begun at most this often …
    pub at_most: u32,
    /// … within this time.
    pub within: Span,
    /// The first step has to come within this time of the finding: a drill fails where it does not.
    pub react_within: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { cool_down: Span::hours(1), at_most: 6, within: Span::days(1), react_within: Span::hours(1) }
    }
}

impl Playbook {
    /// What is wrong with this playbook by itself; every problem is returned.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Err(error) = crate::id::check_name(&self.name) {
            found.push(error.to_string());
        }
        if self.steps.is_empty() {
            found.push("it does nothing; add [[do]] step = \"notify\"".to_owned());
        }
        if self.steps.len() + self.undo.len() > STEPS_MAX {
            found.push(format!("it has more than {STEPS_MAX} steps; make several playbooks"));
        }
        let late = |steps: &[PlaybookStep]| steps.windows(2).any(|pair| pair[0].after > pair[1].after);
        if late(&self.steps) || late(&self.undo) {
            found.push("the steps are not in the order of their `after`; put the earlier ones first".to_owned());
        }
        if self.limits.at_most == 0 {
            found.push("limits.at_most = 0 lets it never begin; remove the file instead".to_owned());
        }
        let has = |action: Action| self.steps.iter().any(|step| step.step == action);
        for (one, other) in [
            (Action::Freeze, Action::Retrain),
            (Action::Freeze, Action::Thaw),
            (Action::RollBack, Action::FallBack),
            (Action::PauseCanary, Action::Discard),
            (Action::Shed, Action::AdmitAll),
        ] {
            let at = |action: Action| self.steps.iter().filter(move |step| step.step == action).map(|step| step.after);
            if has(one) && has(other) && at(one).any(|after| at(other).any(|other| other == after)) {
                found.push(format!(
                    "{} and {} contradict each other; give one of them a later `after`, or remove it",
                    one.name(),
                    other.name()
                ));
            }
        }
        let risky = self.steps.iter().filter(|step| step.step.is_risky());
        let mut times: Vec<Span> = risky.map(|step| step.after).collect();
        times.sort_unstable();
        if times.windows(2).any(|pair| pair[0] == pair[1]) {
            found
                .push("two steps change who answers at the same time; one such step at a time: use `after`".to_owned());
        }
        for step in self.steps.iter().chain(&self.undo) {
            let weight = step.weight_below;
            if (step.step == Action::Shed) != weight.is_some() {
                found.push("weight_below belongs to the step shed, and shed needs it".to_owned());
            }
            if weight.is_some_and(|weight| !(weight.is_finite() && weight > 0.0 && weight <= 1e6)) {
                found.push("weight_below must be above zero, and a million at most".to_owned());
            }
        }
        for step in &self.undo {
            let undoes = match step.step {
                Action::Thaw => has(Action::Freeze),
                Action::AdmitAll => has(Action::Shed),
                Action::Notify | Action::Retrain => true,
                _ => false,
            };
            if !undoes {
                found.push(format!(
                    "undo: {} takes back nothing that it does; thaw undoes freeze, admit_all undoes shed, and notify and retrain may follow",
                    step.step.name()
                ));
            }
        }
        if self.when.findings.is_empty() && self.when.severity == Severity::Info {
            found.push("when: name findings, or a severity: otherwise it would answer to everything".to_owned());
        }
        found
    }

    /// Where two playbooks of the same finding would do the opposite at the same time.
    pub fn contradiction(&self, other: &Playbook) -> Option<String> {
        let meet = |a: &When, b: &When| {
            let kinds = |when: &When, kind: &FindingKind| match when.findings.is_empty() {
                true => kind.severity() >= when.severity,
                false => when.findings.contains(kind),
            };
            let models =
                a.models.is_empty() || b.models.is_empty() || a.models.iter().any(|model| b.models.contains(model));
            let both = a.findings.iter().find(|kind| kinds(b, kind)).or(b.findings.iter().find(|kind| kinds(a, kind)));
            both.copied().filter(|_| models)
        };
        let kind = meet(&self.when, &other.when)?;
        let does = |playbook: &Playbook, action: Action| playbook.steps.iter().any(|step| step.step == action);
        for (one, two) in
            [(Action::Freeze, Action::Retrain), (Action::Freeze, Action::Thaw), (Action::Shed, Action::AdmitAll)]
        {
            for (a, b) in [(self, other), (other, self)] {
                if does(a, one) && does(b, two) {
                    return Some(format!(
                        "on {} playbook \"{}\" would {} and \"{}\" would {}; change the `when` of one",
                        kind.name(),
                        a.name,
                        one.name(),
                        b.name,
                        two.name()
                    ));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn playbook(kind: FindingKind, actions: &[Action]) -> Playbook {
        let steps = actions.iter().map(|step| PlaybookStep { step: *step, after: Span(0), weight_below: None });
        Playbook {
            name: "p".into(),
            description: String::new(),
            when: When { findings: vec![kind], ..When::default() },
            steps: steps.collect(),
            undo: Vec::new(),
            limits: Limits::default(),
        }
    }

    #[test]
    fn contradictions_are_refused() {
        use Action::*;
        assert!(playbook(FindingKind::Surge, &[Notify, RollBack]).problems().is_empty());
        for (actions, said) in [
            (&[Freeze, Retrain][..], "contradict"),
            (&[RollBack, PauseCanary], "one such step at a time"),
            (&[Shed], "weight_below"),
            (&[], "does nothing"),
        ] {
            let problems = playbook(FindingKind::Surge, actions).problems().join("\n");
            assert!(problems.contains(said), "{actions:?}: {problems}");
        }
        let mut undone = playbook(FindingKind::Surge, &[Notify]);
        undone.undo = vec![PlaybookStep { step: Thaw, after: Span(0), weight_below: None }];
        assert!(undone.problems()[0].contains("takes back nothing"));
        let (freezes, retrains) = (playbook(FindingKind::Stale, &[Freeze]), playbook(FindingKind::Stale, &[Retrain]));
        assert!(freezes.contradiction(&retrains).is_some());
        assert!(freezes.contradiction(&playbook(FindingKind::Surge, &[Retrain])).is_none());
    }
}
