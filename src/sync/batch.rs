//! Which of a lane's waiting items go into the next call.

use std::collections::{HashSet, VecDeque};

use super::Item;

/// Takes the next call's items out of the queue: the first one, and those behind it that may share its call.
///
/// Two items about the same thing keep their order: one is not taken past another that stays.
pub fn next<T, I: Item>(queue: &mut VecDeque<T>, item: impl Fn(&T) -> &I, most: impl Fn(&I) -> usize) -> Vec<T> {
    let Some(first) = queue.front() else { return Vec::new() };
    let (action, group, most) = (item(first).action(), item(first).group(), most(item(first)).max(1));
    let mut seen = HashSet::new();
    let mut batch = Vec::new();
    let mut stay = VecDeque::new();
    while batch.len() < most {
        let Some(entry) = queue.pop_front() else { break };
        let it = item(&entry);
        let new = seen.insert(it.id());
        if new && it.action() == action && it.group() == group {
            batch.push(entry);
        } else {
            stay.push_back(entry);
        }
    }
    // What stays was in front of what was not looked at.
    while let Some(entry) = stay.pop_back() {
        queue.push_front(entry);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Action;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct It(Action, &'static str, u32);

    impl Item for It {
        fn action(&self) -> Action {
            self.0
        }
        fn group(&self) -> String {
            self.1.into()
        }
        fn id(&self) -> String {
            self.2.to_string()
        }
    }

    fn take(queue: &mut VecDeque<It>, most: usize) -> Vec<u32> {
        next(queue, |i| i, |_| most).into_iter().map(|i| i.2).collect()
    }

    #[test]
    fn takes_what_fits_with_the_first() {
        let mut queue: VecDeque<_> =
            [It("add", "a", 1), It("add", "b", 2), It("del", "a", 3), It("add", "a", 4), It("add", "a", 5)].into();
        assert_eq!(take(&mut queue, 2), [1, 4]);
        assert_eq!(take(&mut queue, 2), [2]);
        assert_eq!(take(&mut queue, 2), [3]);
        assert_eq!(take(&mut queue, 2), [5]);
        assert!(take(&mut queue, 2).is_empty());
    }

    #[test]
    fn items_about_the_same_thing_keep_their_order() {
        let mut queue: VecDeque<_> =
            [It("add", "", 1), It("del", "", 2), It("add", "", 2), It("add", "", 1), It("add", "", 3)].into();
        assert_eq!(take(&mut queue, 9), [1, 3]);
        assert_eq!(take(&mut queue, 9), [2]);
        assert_eq!(take(&mut queue, 9), [2, 1]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_doubled_or_overtaken(
            items in proptest::collection::vec((0..3usize, 0..2usize, 0..5u32), 0..60), most in 1..6usize,
        ) {
            let all: Vec<(usize, It)> = items
                .iter()
                .map(|(a, g, id)| It(["x", "y", "z"][*a], ["g", "h"][*g], *id))
                .enumerate()
                .collect();
            let mut queue: VecDeque<_> = all.iter().cloned().collect();
            let mut out = Vec::new();
            loop {
                let batch = next(&mut queue, |e: &(usize, It)| &e.1, |_| most);
                if batch.is_empty() {
                    break;
                }
                assert!(batch.len() <= most);
                assert!(batch.iter().all(|e| e.1.0 == batch[0].1.0 && e.1.1 == batch[0].1.1));
                let ids: HashSet<u32> = batch.iter().map(|e| e.1.2).collect();
                assert_eq!(ids.len(), batch.len());
                out.extend(batch);
            }
            assert_eq!(out.len(), all.len());
            for id in 0..5 {
                let order: Vec<usize> = out.iter().filter(|e| e.1.2 == id).map(|e| e.0).collect();
                assert!(order.is_sorted(), "{order:?}");
            }
        }
    }
}
