//! `warmq top`: runners, queues and jobs, live.
//!
//! | module | contents |
//! | --- | --- |
//! | [`snapshot`] | what is shown, read from the router |
//! | [`view`] | draws it: pure |
//! | [`screen`] | the terminal, and its restoration |

pub mod screen;
pub mod snapshot;
pub mod view;
