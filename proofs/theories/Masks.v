(** The mask of [Exec] against the crate's, for the masks that were recorded. *)
From Coq Require Import List ZArith Bool Arith Lia.
From SusOracle Require Import Exec.
Import ListNotations.

(** A mask, and what [Mask::visible] returned for each query: the first visible key, and one past the last. *)
Definition recorded_mask : Type := mask * list (nat * nat).

Definition range_ok (m : mask) (keys i : nat) (range : nat * nat) : bool :=
  let (first, last) := range in
  (last <=? keys) && forallb (fun j => Bool.eqb (visible m i j) ((first <=? j) && (j <? last))) (seq 0 keys).

Definition check_mask (r : recorded_mask) : bool :=
  let (m, ranges) := r in
  let queries := last (m_segment_queries m) O in
  let keys := last (m_segment_keys m) O in
  Nat.eqb (length ranges) queries
  && forallb (fun i => range_ok m keys i (nth i ranges (O, O))) (seq 0 queries).

(** A key is in the recorded range exactly where the mask of [Exec] shows it. *)
Theorem check_mask_sound m ranges : check_mask (m, ranges) = true ->
  forall i j, i < last (m_segment_queries m) O -> j < last (m_segment_keys m) O ->
  (visible m i j = true <-> fst (nth i ranges (O, O)) <= j < snd (nth i ranges (O, O))).
Proof.
  unfold check_mask. intros H i j Hi Hj. apply andb_prop in H as [_ H].
  rewrite forallb_forall in H. specialize (H i ltac:(apply in_seq; lia)). unfold range_ok in H.
  destruct (nth i ranges (O, O)) as [first last]. apply andb_prop in H as [_ H].
  rewrite forallb_forall in H. specialize (H j ltac:(apply in_seq; lia)).
  apply eqb_prop in H. rewrite H, andb_true_iff, Nat.leb_le, Nat.ltb_lt. reflexivity.
Qed.
