//! The Sigma API: its hosts, one attempt at each endpoint, and the ways an attempt can fail.
//!
//! The facts are from Sigma's public `OpenAPI` description and help pages. One attempt is one HTTP request.
//! This module does not wait, retry or pace; `gateway` does that for every request.

pub(crate) mod client;
pub(crate) mod error;
pub(crate) mod hosts;
mod listing;
mod wire;

pub(crate) use client::{
    ApiResponse, Client, ClientOptions, ListingVersion, MemberFilter, Request,
};
pub(crate) use error::{AttemptError, Origin, is_transient};
pub(crate) use listing::{Cursor, Cursors, may_be_cut};
pub(crate) use wire::{
    Identity, ListedMember, MemberPage, Page, Token, TypesPage, UnreadableBody,
    organization_of_members, parse_member,
};
