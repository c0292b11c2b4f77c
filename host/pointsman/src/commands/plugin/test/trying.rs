//! One message, tried on a plugin of any kind.

use pointsman_model::judge::{CheckAnswer, Failure as Stopped, Kind, Verdict};
use pointsman_plugin_host::{Bound, PluginHost};

use super::Circumstances;
use crate::commands::Failure;
use crate::sample::{self, Sample};

impl Circumstances {
    /// What the plugin says of one message, and whether it was stopped.
    pub(super) fn judge(&self, host: &PluginHost, bound: &Bound, sample: &Sample) -> Result<(String, bool), Failure> {
        self.ask(host, bound, sample).map_err(|error| Failure::Refused(error.to_string()))
    }

    fn ask(
        &self,
        host: &PluginHost,
        bound: &Bound,
        sample: &Sample,
    ) -> Result<(String, bool), pointsman_plugin_host::Error> {
        let columns = || sample::columns(std::slice::from_ref(sample), bound.plan());
        Ok(match bound.spec().kind {
            Kind::Filter => {
                let verdicts = host.filter_now(bound, columns(), 1)?;
                describe(verdicts.first(), |accepts| if *accepts { "accept" } else { "refuse" }.to_owned())
            }
            Kind::Dedup => {
                let verdicts = host.dedup_now(bound, columns(), 1)?;
                describe(verdicts.first(), |key| sample::key_words(key.as_ref()))
            }
            Kind::Retry => {
                let question = sample::question(sample, self.attempt, self.reason.as_deref());
                describe(Some(&host.retry_now(bound, question)?), sample::retry_words)
            }
            Kind::CheckBack => self.check_back(host, bound, sample)?,
            _ => {
                let verdicts = host.select_now(bound, &sample::context(self.queues), columns(), 1)?;
                describe(verdicts.first(), |targets| sample::targets(bound.plan(), targets))
            }
        })
    }

    /// The check, and what the plugin makes of the response if it is given one.
    fn check_back(
        &self,
        host: &PluginHost,
        bound: &Bound,
        sample: &Sample,
    ) -> Result<(String, bool), pointsman_plugin_host::Error> {
        let half = sample::half(sample);
        let checked = host.check_back_now(bound, half.clone(), self.attempt)?;
        let (words, stopped) = describe(Some(&checked), sample::check_words);
        match (&checked, &self.response) {
            (Verdict::Answer(CheckAnswer::Ask(_)), Some(response)) => {
                let answered = host.check_answer_now(bound, half, response.clone())?;
                let (answer, stopped) = describe(Some(&answered), sample::check_words);
                Ok((format!("{words}: {answer}"), stopped))
            }
            _ => Ok((words, stopped)),
        }
    }
}

fn describe<T>(verdict: Option<&Verdict<T>>, answer: impl Fn(&T) -> String) -> (String, bool) {
    match verdict {
        Some(Verdict::Answer(value)) => (answer(value), false),
        Some(Verdict::Failed(reason)) => (format!("failed: {reason}"), false),
        Some(Verdict::Stopped(failure)) => (format!("stopped: {}", reason(*failure)), true),
        None => ("no verdict".to_owned(), true),
    }
}

fn reason(failure: Stopped) -> &'static str {
    match failure {
        Stopped::Trap => "it trapped",
        Stopped::Fuel => "it ran out of fuel",
        Stopped::Timeout => "it ran past its time",
        Stopped::Memory => "it asked for too much memory",
        Stopped::Output => "its answer has the wrong shape",
        Stopped::Impure => "asked again, it said something else",
        Stopped::BadHint => "its hint would have skipped a message that it accepts",
    }
}
