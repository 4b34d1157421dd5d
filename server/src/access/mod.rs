//! Decides who may open what.

pub(crate) mod excerpt;
pub(crate) mod origin;
pub(crate) mod reader;
pub(crate) mod scope;
