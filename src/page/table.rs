//! The links of a page, by number: JavaScript knows them by that, and the hot path is made of functions. (Exported classes
//! cost 200 to 300 bytes a method.)

use std::cell::RefCell;

use crate::page::link::PageLink;

thread_local! {
    static LINKS: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

/// A slot of the table.
#[derive(Default)]
struct Slot {
    /// Whether a link has this number.
    is_taken: bool,
    /// The link, unless [`with`] has it.
    link: Option<Box<PageLink>>,
}

/// Adds a link; returns its number.
pub(crate) fn add(make: impl FnOnce(u32) -> PageLink) -> u32 {
    in_table(|links| {
        let number = links.iter().position(|slot| !slot.is_taken).unwrap_or(links.len());
        let slot = Slot { is_taken: true, link: Some(Box::new(make(number as u32))) };
        match links.get_mut(number) {
            Some(free) => *free = slot,
            None => links.push(slot),
        }
        number as u32
    })
}

/// Gives a link up.
pub(crate) fn remove(number: u32) {
    drop(in_table(|links| links.get_mut(number as usize).map(std::mem::take)));
}

/// Does something with a link. A link that has been given up does nothing.
///
/// The link is taken out of the table meanwhile. Where `act` calls code of the page, and that calls in again, the second call
/// does nothing.
pub(crate) fn with<T: Default>(number: u32, act: impl FnOnce(&mut PageLink) -> T) -> T {
    let Some(mut link) = take(number) else { return T::default() };
    let result = act(&mut link);
    put(number, link);
    result
}

#[inline(never)]
fn take(number: u32) -> Option<Box<PageLink>> {
    in_table(|links| links.get_mut(number as usize).and_then(|slot| slot.link.take()))
}

#[inline(never)]
fn put(number: u32, link: Box<PageLink>) {
    in_table(|links| {
        if let Some(slot) = links.get_mut(number as usize).filter(|slot| slot.is_taken) {
            slot.link = Some(link);
        }
    });
}

fn in_table<T: Default>(look: impl FnOnce(&mut Vec<Slot>) -> T) -> T {
    LINKS.with(|links| links.try_borrow_mut().map(|mut links| look(&mut links)).unwrap_or_default())
}
