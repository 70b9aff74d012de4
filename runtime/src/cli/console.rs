//! Asking the person at the terminal.

use std::io::{BufRead, IsTerminal as _, Write};

use super::failure::Failure;

/// Bytes of one answer: the longest sensible one is a path or a few ids.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Where questions go and answers come from.
pub(super) struct Console {
    is_interactive: bool,
    input: Box<dyn BufRead>,
    output: Box<dyn Write>,
}

impl Console {
    /// Returns the process's: questions go to standard error, and are only asked where a person can answer.
    pub(super) fn of_process() -> Self {
        Self {
            is_interactive: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
            input: Box::new(std::io::stdin().lock()),
            output: Box::new(std::io::stderr()),
        }
    }

    /// Returns whether there is somebody to ask.
    pub(super) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// Tells something.
    pub(super) fn say(&mut self, text: &str) -> Result<(), Failure> {
        write!(self.output, "{text}")
            .and_then(|()| self.output.flush())
            .map_err(|error| broken(&error))
    }

    /// Asks, and returns the answer without blanks around it; it may be empty.
    pub(super) fn ask(&mut self, question: &str) -> Result<String, Failure> {
        self.say(&format!("{question} "))?;
        let mut line = String::new();
        let read = std::io::Read::take(&mut self.input, ANSWER_BYTES_MAX).read_line(&mut line);
        match read.map_err(|error| broken(&error))? {
            0 => Err(Failure::plain(
                "the input ended before all was answered; nothing was changed",
            )),
            _ => Ok(line.trim().to_owned()),
        }
    }

    /// Asks for a yes. Anything else is a no.
    pub(super) fn confirm(&mut self, question: &str) -> Result<bool, Failure> {
        let answer = self.ask(&format!("{question} [y/N]"))?;
        Ok(matches!(answer.to_lowercase().as_str(), "y" | "yes"))
    }

    /// Returns a console for a test: the answers, one a line; none where nobody is there.
    #[cfg(test)]
    pub(super) fn of_answers(answers: Option<&str>) -> Self {
        let input = std::io::Cursor::new(answers.unwrap_or_default().to_owned());
        Self {
            is_interactive: answers.is_some(),
            input: Box::new(input),
            output: Box::new(std::io::sink()),
        }
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::plain(format!("the terminal can't be used: {error}; nothing was changed"))
}
