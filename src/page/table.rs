//! The links of a page, by number: JavaScript knows them by that, and the hot path is made of functions. (Exported classes
//! cost 200 to 300 bytes a method.)

use std::cell::RefCell;

use crate::page::link::PageLink;

thread_local! {
    static LINKS: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// A place of the table.
#[derive(Default)]
struct Place {
    /// Whether a link has this number.
    is_taken: bool,
    /// The link, unless [`with`] has it.
    link: Option<Box<PageLink>>,
}

/// Adds a link; returns its number.
pub(crate) fn add(make: impl FnOnce(u32) -> PageLink) -> u32 {
    in_table(|links| {
        let number = links.iter().position(|place| !place.is_taken).unwrap_or(links.len());
        let place = Place { is_taken: true, link: Some(Box::new(make(number as u32))) };
        match links.get_mut(number) {
            Some(free) => *free = place,
            None => links.push(place),
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
    in_table(|links| links.get_mut(number as usize).and_then(|place| place.link.take()))
}

#[inline(never)]
fn put(number: u32, link: Box<PageLink>) {
    in_table(|links| {
        if let Some(place) = links.get_mut(number as usize).filter(|place| place.is_taken) {
            place.link = Some(link);
        }
    });
}

fn in_table<T: Default>(look: impl FnOnce(&mut Vec<Place>) -> T) -> T {
    LINKS.with(|links| links.try_borrow_mut().map(|mut links| look(&mut links)).unwrap_or_default())
}
