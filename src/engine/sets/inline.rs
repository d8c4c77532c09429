//! Sets of a few keys in an array, of which the first `len` are members.

/// Inserts a member. Returns whether it was absent, or `None` if it was and the array is full.
#[inline]
pub(super) fn insert<const N: usize>(
    len: &mut u8,
    members: &mut [u32; N],
    member: u32,
) -> Option<bool> {
    let count = usize::from(*len);
    if members[..count].contains(&member) {
        return Some(false);
    }
    *members.get_mut(count)? = member;
    *len += 1;
    Some(true)
}

/// Removes a member. Returns whether it was present. The last member moves to its position.
#[inline]
pub(super) fn remove<const N: usize>(len: &mut u8, members: &mut [u32; N], member: u32) -> bool {
    let count = usize::from(*len);
    let Some(index) = members[..count].iter().position(|&each| each == member) else {
        return false;
    };
    members[index] = members[count - 1];
    *len -= 1;
    true
}
