//! Names of images: what is accepted is written in a form that is accepted again, and means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::reference::Reference;

fuzz_target!(|text: &str| {
    let Ok(reference) = Reference::parse(text) else { return };
    let familiar = reference.familiar();
    let again = Reference::parse(&familiar);
    assert_eq!(again.as_ref(), Ok(&reference), "{text:?} is shown as {familiar:?}");
});
