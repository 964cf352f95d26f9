//! A text at the bottom of the terminal that is drawn anew in its place.
//!
//! Owns what is erased and how much is drawn. Draws nothing where nobody looks: in a pipe.

use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

/// See the module.
#[derive(Debug)]
pub(crate) struct Live {
    is_terminal: bool,
    /// Lines of the text that stands at the bottom of the terminal now.
    drawn: usize,
}

impl Live {
    pub(crate) fn new() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), drawn: 0 }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Takes it away, so that something that stays can be written in its place.
    pub(crate) fn erase(&mut self) {
        if self.drawn > 0 {
            // Up so many lines, and clear from there to the end.
            write_out(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    /// Puts it in the place of what was drawn before.
    pub(crate) fn draw(&mut self, text: &str) {
        if !self.is_terminal {
            return;
        }
        self.erase();
        let rows = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_row));
        let text = fitted(text, rows);
        self.drawn = text.lines().count();
        // Long lines are cut by the terminal, or counting lines would be wrong.
        write_out(&format!("\x1b[?7l{text}\n\x1b[?7h"));
    }

    /// Leaves it where it is, and draws no more.
    pub(crate) fn end(&mut self) {
        *self = Self { is_terminal: false, drawn: 0 };
    }
}

/// What scrolls away cannot be drawn anew: no more lines than the terminal has, the cursor's below them. 0 rows: it does not say.
fn fitted(text: &str, rows: usize) -> String {
    let (lines, room) = (text.lines().count(), rows.saturating_sub(1));
    if rows == 0 || lines <= room {
        return text.to_owned();
    }
    let shown = room.saturating_sub(1);
    let mut fitting: Vec<&str> = text.lines().take(shown).collect();
    let rest = format!("… and {} more lines", lines - shown);
    fitting.push(&rest);
    fitting.join("\n")
}

/// Says something to whoever looks.
pub(crate) fn write_out(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody may be looking any more; what is shown goes on.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
