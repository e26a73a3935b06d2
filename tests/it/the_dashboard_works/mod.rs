//! The dashboard, in headless Chromium: as a person uses it.
//!
//! | file | subject |
//! | --- | --- |
//! | `browser` | the browser |
//! | `jobs` | submit, watch, see the picture, cancel, run again, redrive |
//! | `fleet` | many runners and long queues |
//! | `login` | logging in and out, and what a session may do |
//! | `usage` | what ended jobs used |
//! | `looks` | labels, contrast, the keyboard, small windows |

mod browser;
mod fleet;
mod jobs;
mod login;
mod looks;
mod usage;

/// The window of a desktop.
const WIDE: (u32, u32) = (1440, 900);

/// The window of a phone.
const PHONE: (u32, u32) = (390, 844);
