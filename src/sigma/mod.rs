//! The Sigma API: hosts, one attempt at each endpoint, and what may go wrong with it.
//!
//! Facts are from Sigma's public `OpenAPI` description and help pages. One attempt is one HTTP request: no waiting,
//! no second try and no pacing here; `gateway` does that, for every request alike.

pub mod client;
pub mod error;
pub mod hosts;
mod wire;

pub use client::{Answer, Client, ClientOptions, Filter, Request, Version};
pub use error::{ApiError, AttemptError};
pub use wire::{Identity, Page, Token, TypesPage, UnreadableBody};
