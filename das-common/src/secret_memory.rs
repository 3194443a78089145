//! Memory for secrets that live as long as the process, and what a process does that holds one.
//!
//! What this cannot do: the copies that signing makes on the stack for microseconds, and the buffers of a file, an
//! answer or a terminal that a secret comes from, are overwritten when they are no longer needed, but are not locked. The
//! secret key of a TLS certificate is the TLS library's.

use std::ffi::c_void;
use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroize;

/// A value on pages of its own: overwritten when it is dropped, not in core dumps, and (where the system allows it) never
/// in swap space.
pub struct Locked<T: Zeroize> {
    value: NonNull<T>,
    place: Place,
    locked: bool,
}

enum Place {
    /// Pages, and their length in bytes.
    Pages(usize),
    /// The system gave no pages.
    Heap,
}

// SAFETY: the value is owned by this, like that of a box, and nothing of it depends on the thread.
unsafe impl<T: Zeroize + Send> Send for Locked<T> {}
// SAFETY: shared references to this give shared references to the value only.
unsafe impl<T: Zeroize + Sync> Sync for Locked<T> {}

impl<T: Zeroize> Locked<T> {
    /// Moves a value there. It must not be aligned to more than a page, which none is.
    pub fn new(mut value: T) -> Self
    where
        T: Clone,
    {
        // Cloned into its place and overwritten here, as a plain move would leave the old bytes behind.
        let length = size_of::<T>().max(1).next_multiple_of(rustix::param::page_size());
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new pages wherever the kernel likes, of nobody else.
        let pages = unsafe { mmap_anonymous(ptr::null_mut(), length, flags, MapFlags::PRIVATE) };
        let pages = pages.ok().and_then(|pages| NonNull::new(pages.cast::<T>()));
        let held = match pages {
            Some(pages) => {
                let start = pages.as_ptr().cast::<c_void>();
                // SAFETY: `length` bytes from `start` are the pages made above. Neither call changes what they hold.
                let locked = unsafe {
                    // Without it a core dump has the pages, where there are core dumps at all.
                    let _ = madvise(start, length, Advice::LinuxDontDump);
                    mlock(start, length).is_ok()
                };
                // SAFETY: pages are writable, aligned, and large enough for the value.
                unsafe { pages.as_ptr().write(value.clone()) };
                Self { value: pages, place: Place::Pages(length), locked }
            }
            None => {
                let value = NonNull::from(Box::leak(Box::new(value.clone())));
                Self { value, place: Place::Heap, locked: false }
            }
        };
        value.zeroize();
        held
    }

    /// Whether it never goes to swap space.
    pub fn is_locked(&self) -> bool {
        self.locked
    }
}

impl<T: Zeroize> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value is there from `new` to `drop`, and changed by neither in between.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Zeroize> Drop for Locked<T> {
    fn drop(&mut self) {
        match self.place {
            Place::Pages(length) => {
                // SAFETY: nobody else has the value, which ends here; then nobody has the pages either.
                unsafe {
                    self.value.as_mut().zeroize();
                    self.value.drop_in_place();
                    let _ = munmap(self.value.as_ptr().cast::<c_void>(), length);
                }
            }
            Place::Heap => {
                // SAFETY: made by leaking a box in `new`, and given back once.
                let mut value = unsafe { Box::from_raw(self.value.as_ptr()) };
                value.zeroize();
            }
        }
    }
}

/// From now on this process writes no core dump, and other processes of the same user cannot look into its memory and
/// environment. To be called before a secret is read.
///
/// `/proc/self/io` then belongs to root; [`process_use`](crate::telemetry::process_use) opens it before.
pub fn keep_others_out() -> io::Result<()> {
    crate::telemetry::open_process_files();
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone)]
    struct Counted {
        bytes: [u8; 8],
        wiped: Rc<Cell<u32>>,
    }

    impl Zeroize for Counted {
        fn zeroize(&mut self) {
            self.bytes.zeroize();
            self.wiped.set(self.wiped.get() + 1);
        }
    }

    #[test]
    fn what_is_moved_there_is_wiped_where_it_was_and_when_it_ends() {
        let wiped = Rc::new(Cell::new(0));
        let held = Locked::new(Counted { bytes: [7; 8], wiped: Rc::clone(&wiped) });
        assert_eq!((held.bytes, wiped.get()), ([7; 8], 1));
        drop(held);
        assert_eq!((wiped.get(), Rc::strong_count(&wiped)), (2, 1));
    }
}
