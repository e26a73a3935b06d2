//! The terminal of `warmq top`.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

/// The terminal in raw mode on its alternate screen. It is restored when this is dropped, and by a
/// panic before its message.
pub struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// The output is not a terminal.
    pub fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    /// Draws a frame.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// A key that has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// End the program.
    Quit,
    /// Scroll by so many rows; negative: up.
    Scroll(isize),
    /// Draw again: the size has changed.
    Redraw,
}

/// Pressed keys that are not handled yet; the terminal keeps further ones.
const MAX_INPUTS: usize = 16;

/// Reads the keyboard on a thread of its own. The channel closes with the terminal.
pub fn inputs() -> mpsc::Receiver<Input> {
    let (sender, receiver) = mpsc::channel(MAX_INPUTS);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if let Some(input) = meaning(&event)
                && sender.blocking_send(input).is_err()
            {
                return;
            }
        }
    });
    receiver
}

/// Rows of a page.
const PAGE: isize = 10;

fn meaning(event: &Event) -> Option<Input> {
    let key = match event {
        Event::Resize(..) => return Some(Input::Redraw),
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        _ => return None,
    };
    match key {
        KeyEvent {
            code: KeyCode::Char('c' | 'd'),
            modifiers: KeyModifiers::CONTROL,
            ..
        } => Some(Input::Quit),
        KeyEvent { code, .. } => match code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Input::Quit),
            KeyCode::Up | KeyCode::Char('k') => Some(Input::Scroll(-1)),
            KeyCode::Down | KeyCode::Char('j') => Some(Input::Scroll(1)),
            KeyCode::PageUp => Some(Input::Scroll(-PAGE)),
            KeyCode::PageDown => Some(Input::Scroll(PAGE)),
            KeyCode::Home => Some(Input::Scroll(isize::MIN)),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quitting_has_several_keys_and_typing_is_ignored() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        for quit in [
            key(KeyCode::Char('q'), KeyModifiers::NONE),
            key(KeyCode::Esc, KeyModifiers::NONE),
            key(KeyCode::Char('c'), KeyModifiers::CONTROL),
        ] {
            assert_eq!(meaning(&quit), Some(Input::Quit));
        }
        assert_eq!(meaning(&key(KeyCode::Char('c'), KeyModifiers::NONE)), None);
        let down = key(KeyCode::Down, KeyModifiers::NONE);
        assert_eq!(meaning(&down), Some(Input::Scroll(1)));
        assert_eq!(meaning(&Event::Resize(80, 24)), Some(Input::Redraw));
    }
}
