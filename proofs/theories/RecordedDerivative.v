(** Over the real numbers, the recorded backward pass is the derivative of the recorded forward pass. *)
From Coq Require Import Reals List ZArith Bool Arith Lia Lra.
From Coquelicot Require Import Coquelicot.
From SusOracle Require Import Exec Record Recorded Derivative.
From SusOracle.Generated Require Import Runs.
Import ListNotations.
Local Open Scope R_scope.

(** The inputs [x], but [q], [k], [v], [bias] and [sink] as [y] has them. *)
Definition with_moving (x : Record.inputs R) (y : Derivative.inputs) : Record.inputs R :=
  fun t => match t with
           | IQ => i_q y
           | IK => i_k y
           | IV => i_v y
           | IBias => i_bias y
           | ISink => fun _ _ _ h => i_sink y h
           | _ => x t
           end.

Section Case.
Variables (c : case) (least : R) (x : Record.inputs R).
Let K := real_ops least.
Let p := problem_of c K x.

(** The value of a recorded node. *)
Definition recorded_value (y : Derivative.inputs) : positive -> R := value K (with_moving x y) (c_table c).

(** [sum <G, o> + sum dlse . lse] of the recorded [o] and [lse]. *)
Definition recorded_loss (y : Derivative.inputs) : R :=
  total (all_rows p) (fun r =>
    total (seq 0 (c_value_features c)) (fun e =>
      x IG (r_b r) (r_h r) (r_i r) e * recorded_value y (at4 (c_o c) (r_b r) (r_h r) (r_i r) e))
    + (if c_dlse c then x IDlse (r_b r) (r_h r) (r_i r) O else 0)
      * recorded_value y (at4 (c_lse c) (r_b r) (r_h r) (r_i r) O)).

(** The recorded gradients paired with velocities of their inputs. *)
Definition recorded_pairing (y y' : Derivative.inputs) : R :=
  let val := recorded_value y in
  let t := c_backward c in
  total (all_rows p) (fun r => total (seq 0 (c_features c)) (fun d =>
    val (at4 (t_dq t) (r_b r) (r_h r) (r_i r) d) * i_q y' (r_b r) (r_h r) (r_i r) d))
  + total (seq 0 (c_batch c)) (fun b => total (seq 0 (c_key_heads c)) (fun kh =>
      total (seq 0 (c_keys c)) (fun j => total (seq 0 (c_features c)) (fun d =>
        val (at4 (t_dk t) b kh j d) * i_k y' b kh j d))))
  + total (seq 0 (c_batch c)) (fun b => total (seq 0 (c_key_heads c)) (fun kh =>
      total (seq 0 (c_keys c)) (fun j => total (seq 0 (c_value_features c)) (fun e =>
        val (at4 (t_dv t) b kh j e) * i_v y' b kh j e))))
  + (if c_bias c then total (bias_rows p) (fun a => total (seq 0 (c_keys c)) (fun j =>
       val (at4 (t_dbias t) (r_b a) (r_h a) (r_i a) j) * i_bias y' (r_b a) (r_h a) (r_i a) j)) else 0)
  + (if c_sink c then total (seq 0 (heads c)) (fun h => val (nth h (t_dsink t) 1%positive) * i_sink y' h) else 0).

Lemma problem_of_moving y : problem_of c K (with_moving x y) = with_inputs p y.
Proof. unfold p, problem_of, with_inputs. simpl. destruct (c_bias c), (c_sink c); reflexivity. Qed.

Lemma in_all_rows r : In r (all_rows p) ->
  (r_b r < c_batch c)%nat /\ (r_h r < heads c)%nat /\ (r_i r < c_queries c)%nat.
Proof. intros H. apply in_rows_of in H. rewrite !in_seq in H. unfold heads. unfold p_heads in H. simpl in H. lia. Qed.

Lemma in_bias_rows r : In r (bias_rows p) ->
  (r_b r < bias_batch c)%nat /\ (r_h r < bias_heads c)%nat /\ (r_i r < bias_queries c)%nat.
Proof.
  intros H. apply in_rows_of in H. rewrite !in_seq in H. unfold bias_length, p_heads in H. simpl in H.
  unfold bias_batch, bias_heads, bias_queries, heads.
  destruct (c_spread_b c), (c_spread_h c), (c_spread_i c); lia.
Qed.

Variable Hc : In c runs.

Lemma recorded_loss_is y : recorded_loss y = loss K (with_inputs p y) (forward K (with_inputs p y) (choices_of c)).
Proof.
  assert (H := runs_are_the_program c Hc R K (with_moving x y)). unfold recorded in H.
  rewrite problem_of_moving in H. destruct H as [[[_ Ho] [_ Hl]] _].
  unfold recorded_loss, loss. apply total_ext. intros r Hr. apply in_all_rows in Hr. destruct Hr as [Hb [Hh Hi]].
  destruct r as [b h i]. cbn [r_b r_h r_i] in Hb, Hh, Hi. f_equal.
  - change (p_value_features (with_inputs p y)) with (c_value_features c).
    apply total_ext. intros e He. rewrite in_seq in He. cbn [r_b r_h r_i]. unfold recorded_value.
    rewrite Ho by lia. reflexivity.
  - cbn [r_b r_h r_i]. unfold recorded_value. rewrite Hl by lia. unfold dlse_of. simpl.
    destruct (c_dlse c); reflexivity.
Qed.

Lemma recorded_pairing_is y y' :
  recorded_pairing y y' = pairing p (backward K (with_inputs p y) (choices_of c)
                                       (forward K (with_inputs p y) (choices_of c))) y'.
Proof.
  assert (H := runs_are_the_program c Hc R K (with_moving x y)). unfold recorded in H.
  rewrite problem_of_moving in H. destruct H as [_ [[[[_ Hq] [[_ Hk] [[_ Hv] Hbias]]] Hsink] _]].
  unfold recorded_pairing, pairing, recorded_value.
  change (p_features p) with (c_features c). change (p_value_features p) with (c_value_features c).
  change (p_keys p) with (c_keys c). change (p_batch p) with (c_batch c). change (p_key_heads p) with (c_key_heads c).
  change (p_heads p) with (heads c).
  refine (f_equal2 Rplus (f_equal2 Rplus (f_equal2 Rplus (f_equal2 Rplus _ _) _) _) _).
  - apply total_ext. intros [b h i] Hr. apply in_all_rows in Hr. cbn [r_b r_h r_i] in *. apply total_ext. intros d Hd.
    rewrite in_seq in Hd. rewrite Hq by lia. reflexivity.
  - apply total_ext; intros b Hb; apply total_ext; intros kh Hkh; apply total_ext; intros j Hj;
      apply total_ext; intros d Hd. rewrite in_seq in Hb, Hkh, Hj, Hd. rewrite Hk by lia. reflexivity.
  - apply total_ext; intros b Hb; apply total_ext; intros kh Hkh; apply total_ext; intros j Hj;
      apply total_ext; intros d Hd. rewrite in_seq in Hb, Hkh, Hj, Hd. rewrite Hv by lia. reflexivity.
  - unfold p at 2. unfold problem_of. cbn [p_bias]. destruct (c_bias c); [|reflexivity].
    destruct (Hbias eq_refl) as [_ Hb]. apply total_ext. intros [b h i] Hr. apply in_bias_rows in Hr.
    cbn [r_b r_h r_i] in *. apply total_ext. intros j Hj. rewrite in_seq in Hj. rewrite Hb by lia. reflexivity.
  - unfold p at 1. unfold problem_of. cbn [p_sink]. destruct (c_sink c); [|reflexivity].
    destruct (Hsink eq_refl) as [_ Hs]. apply total_ext. intros h Hh. rewrite in_seq in Hh. rewrite Hs by lia.
    reflexivity.
Qed.
End Case.

Lemma runs_softcap_not_zero :
  forallb (fun c => match c_softcap c with Some (m, _) => negb (Z.eqb m 0) | None => true end) runs = true.
Proof. vm_compute. reflexivity. Qed.

(** For each recorded run, along any differentiable curve of [q], [k], [v], [bias] and [sink], the derivative of the
    loss of the recorded [o] and [lse] is the recorded [dq], [dk], [dv], [dbias] and [dsink], paired with the
    velocities.  The cotangents [G] and [dlse] are those of [x], any numbers. *)
Theorem recorded_backward_is_the_derivative :
  forall c, In c runs -> forall (least : R) (x : Record.inputs R) (y : R -> Derivative.inputs) (t0 : R)
    (y' : Derivative.inputs),
  differentiable (problem_of c (real_ops least) x) y t0 y' ->
  is_derive (fun t => recorded_loss c least x (y t)) t0 (recorded_pairing c least x (y t0) y').
Proof.
  intros c Hc least x y t0 y' Hy.
  apply (is_derive_ext (fun t => loss (real_ops least) (with_inputs (problem_of c (real_ops least) x) (y t))
    (forward (real_ops least) (with_inputs (problem_of c (real_ops least) x) (y t)) (choices_of c))));
    [intros t; symmetry; now apply recorded_loss_is|].
  rewrite recorded_pairing_is by assumption.
  apply (backward_is_the_derivative least (problem_of c (real_ops least) x) y t0 y' (fun _ => choices_of c)); auto.
  simpl. assert (H := runs_softcap_not_zero). rewrite forallb_forall in H. specialize (H c Hc).
  destruct (c_softcap c) as [[m e]|]; simpl; [|discriminate].
  apply negb_true_iff, Z.eqb_neq in H. intros E. injection E as E.
  apply Rmult_integral in E. destruct E as [E|E]; [now apply H, eq_IZR|].
  revert E. apply powerRZ_NOR. lra.
Qed.
