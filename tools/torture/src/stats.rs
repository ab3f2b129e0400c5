//! Figures: percentiles, trimmed means, the rank statistic for timing leaks,
//! and the memory of another process.

use std::time::Duration;

/// The q-quantile (0 to 1) by nearest rank; zero for no samples.
pub fn quantile(samples: &mut [Duration], q: f64) -> Duration {
    if samples.is_empty() {
        return Duration::ZERO;
    }
    samples.sort_unstable();
    let rank = (q * samples.len() as f64).ceil() as usize;
    samples[rank.clamp(1, samples.len()) - 1]
}

/// Mean in milliseconds of what is left when the slowest `cut` (0 to 1) are
/// dropped: another process on the machine stretches the tail of every class.
pub fn trimmed_mean_ms(samples: &[f64], cut: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let kept = ((sorted.len() as f64 * (1.0 - cut)).ceil() as usize).max(1);
    sorted.truncate(kept);
    sorted.iter().sum::<f64>() / sorted.len().max(1) as f64
}

/// Area under the ROC curve of telling `b` from `a` by size alone: the
/// probability that a random `b` exceeds a random `a`, ties counted half.
/// 0.5 means that nothing can be told.
pub fn auc(a: &[f64], b: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = a.iter().map(|&x| (x, false)).collect();
    all.extend(b.iter().map(|&x| (x, true)));
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let mut rank_sum_b = 0.0;
    let mut start = 0;
    while start < all.len() {
        let mut end = start;
        while end < all.len() && all[end].0 == all[start].0 {
            end += 1;
        }
        let shared_rank = (start + end + 1) as f64 / 2.0;
        let in_b = all[start..end].iter().filter(|x| x.1).count();
        rank_sum_b += shared_rank * in_b as f64;
        start = end;
    }
    let (a_len, b_len) = (a.len() as f64, b.len() as f64);
    (rank_sum_b - b_len * (b_len + 1.0) / 2.0) / (a_len * b_len)
}

/// Resident memory of a process in bytes, from `/proc`; `None` elsewhere.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Milliseconds with one decimal, for the lines that people read.
pub fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// Mebibytes with one decimal.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_nearest_rank() {
        let mut samples: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&mut samples, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&mut samples, 1.0), Duration::from_millis(100));
        assert_eq!(quantile(&mut [], 0.5), Duration::ZERO);
    }

    #[test]
    fn auc_of_equal_shifted_and_tied_classes() {
        assert_eq!(auc(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
        assert_eq!(auc(&[3.0, 4.0], &[1.0, 2.0]), 0.0);
        assert_eq!(auc(&[1.0, 1.0], &[1.0, 1.0]), 0.5);
        assert_eq!(auc(&[1.0, 3.0], &[2.0]), 0.5);
    }

    #[test]
    fn a_trimmed_mean_drops_the_slow_tail() {
        assert_eq!(trimmed_mean_ms(&[1.0, 1.0, 1.0, 100.0], 0.25), 1.0);
    }
}
