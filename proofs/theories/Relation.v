(** The program of [Exec] respects every relation that its operations respect.

    Two scalars with a relation between them, such that related operands give related results: then the program
    run over the one is related to the program run over the other.  [Record] uses this to carry a check that was computed
    over nodes of a recorded run to every scalar. *)
From Coq Require Import List ZArith Bool Arith.
From SusOracle Require Import Exec.
Import ListNotations.

Section Relation.
Context {A B : Type} (R : A -> B -> Prop) (KA : ops A) (KB : ops B).

Record ops_related : Prop := OpsRelated {
  r_zero : R (o_zero KA) (o_zero KB);
  r_one : R (o_one KA) (o_one KB);
  r_least : R (o_least KA) (o_least KB);
  r_num : forall m e, R (o_num KA m e) (o_num KB m e);
  r_add : forall a b a' b', R a b -> R a' b' -> R (o_add KA a a') (o_add KB b b');
  r_sub : forall a b a' b', R a b -> R a' b' -> R (o_sub KA a a') (o_sub KB b b');
  r_mul : forall a b a' b', R a b -> R a' b' -> R (o_mul KA a a') (o_mul KB b b');
  r_div : forall a b a' b', R a b -> R a' b' -> R (o_div KA a a') (o_div KB b b');
  r_opp : forall a b, R a b -> R (o_opp KA a) (o_opp KB b);
  r_exp : forall a b, R a b -> R (o_exp KA a) (o_exp KB b);
  r_ln : forall a b, R a b -> R (o_ln KA a) (o_ln KB b);
  r_tanh : forall a b, R a b -> R (o_tanh KA a) (o_tanh KB b);
  r_sqrt : forall a b, R a b -> R (o_sqrt KA a) (o_sqrt KB b)
}.

Definition option_related {X Y} (P : X -> Y -> Prop) (a : option X) (b : option Y) : Prop :=
  match a, b with
  | None, None => True
  | Some x, Some y => P x y
  | _, _ => False
  end.

Record problem_related (pa : problem A) (pb : problem B) : Prop := ProblemRelated {
  r_batch : p_batch pa = p_batch pb;
  r_key_heads : p_key_heads pa = p_key_heads pb;
  r_group : p_group pa = p_group pb;
  r_queries : p_queries pa = p_queries pb;
  r_keys : p_keys pa = p_keys pb;
  r_features : p_features pa = p_features pb;
  r_value_features : p_value_features pa = p_value_features pb;
  r_scale : R (p_scale pa) (p_scale pb);
  r_softcap : option_related R (p_softcap pa) (p_softcap pb);
  r_visible : p_visible pa = p_visible pb;
  r_q : forall b h i d, R (p_q pa b h i d) (p_q pb b h i d);
  r_k : forall b h j d, R (p_k pa b h j d) (p_k pb b h j d);
  r_v : forall b h j e, R (p_v pa b h j e) (p_v pb b h j e);
  r_g : forall b h i e, R (p_g pa b h i e) (p_g pb b h i e);
  r_dlse : option_related (fun x y => forall b h i, R (x b h i) (y b h i)) (p_dlse pa) (p_dlse pb);
  r_bias : option_related (fun x y => forall b h i j, R (x b h i j) (y b h i j)) (p_bias pa) (p_bias pb);
  r_spread_b : p_spread_b pa = p_spread_b pb;
  r_spread_h : p_spread_h pa = p_spread_h pb;
  r_spread_i : p_spread_i pa = p_spread_i pb;
  r_sink : option_related (fun x y => forall h, R (x h) (y h)) (p_sink pa) (p_sink pb)
}.

Record saved_related (sa : saved A) (sb : saved B) : Prop := SavedRelated {
  r_o : forall r e, R (s_o sa r e) (s_o sb r e);
  r_lse : forall r, R (s_lse sa r) (s_lse sb r)
}.

Record weights_related (wa : weights A) (wb : weights B) : Prop := WeightsRelated {
  r_kept : forall r j, w_kept wa r j = w_kept wb r j;
  r_w : forall r j, R (w_w wa r j) (w_w wb r j);
  r_slope : forall r j, R (w_slope wa r j) (w_slope wb r j)
}.

Record gradients_related (ga : @gradients A) (gb : @gradients B) : Prop := GradientsRelated {
  r_dq : forall r d, R (g_dq ga r d) (g_dq gb r d);
  r_dk : forall b h j d, R (g_dk ga b h j d) (g_dk gb b h j d);
  r_dv : forall b h j e, R (g_dv ga b h j e) (g_dv gb b h j e);
  r_dbias : forall r j, R (g_dbias ga r j) (g_dbias gb r j);
  r_dsink : forall h, R (g_dsink ga h) (g_dsink gb h)
}.

Hypothesis HK : ops_related.

Lemma sum_related {I} (l : list I) (fa : I -> A) (fb : I -> B) :
  (forall n, R (fa n) (fb n)) -> R (sum KA l fa) (sum KB l fb).
Proof.
  intros Hf. unfold sum. generalize (r_zero HK).
  generalize (o_zero KA) (o_zero KB). induction l as [|n l IH]; intros a b Hab; simpl; auto.
  apply IH, (r_add HK); auto.
Qed.

Lemma dot_related n (xa ya : nat -> A) (xb yb : nat -> B) :
  (forall d, R (xa d) (xb d)) -> (forall d, R (ya d) (yb d)) -> R (dot KA n xa ya) (dot KB n xb yb).
Proof. intros Hx Hy. apply sum_related. intros d. now apply (r_mul HK). Qed.

Lemma default_scale_related n : R (default_scale KA n) (default_scale KB n).
Proof. apply (r_div HK); [apply (r_one HK)|]. apply (r_sqrt HK), (r_num HK). Qed.

Lemma sech_squared_related negative a b : R a b -> R (sech_squared KA negative a) (sech_squared KB negative b).
Proof.
  intros Hab. unfold sech_squared.
  assert (Hm : R (if negative then o_opp KA a else a) (if negative then o_opp KB b else b))
    by (destruct negative; auto; now apply (r_opp HK)).
  assert (He := r_exp HK _ _ (r_opp HK _ _ (r_add HK _ _ _ _ Hm Hm))).
  assert (Hr := r_add HK _ _ _ _ (r_one HK) He).
  apply (r_div HK); [apply (r_mul HK); [apply (r_num HK)|]|apply (r_mul HK)]; assumption.
Qed.

Lemma log_sum_exp_related peak la lb sa sb :
  Forall2 R la lb -> option_related R sa sb -> R (log_sum_exp KA peak la sa) (log_sum_exp KB peak lb sb).
Proof.
  intros Hl Hs. unfold log_sum_exp.
  set (ta := match sa with None => la | Some s => s :: la end).
  set (tb := match sb with None => lb | Some s => s :: lb end).
  assert (Ht : Forall2 R ta tb).
  { unfold ta, tb. destruct sa, sb; simpl in Hs; try contradiction; auto. }
  assert (Hn : R (nth peak ta (o_least KA)) (nth peak tb (o_least KB))).
  { generalize peak. induction Ht; intros [|n]; simpl; try apply (r_least HK); auto. }
  assert (Hk : forall ma mb, R ma mb ->
      R (sum KA la (fun s => o_exp KA (o_sub KA s ma))) (sum KB lb (fun s => o_exp KB (o_sub KB s mb)))).
  { intros ma mb Hm. unfold sum. generalize (r_zero HK).
    generalize (o_zero KA) (o_zero KB). clear Hn Ht ta tb.
    induction Hl as [|x y la lb Hxy Hl IH]; intros a b Hab; simpl; auto.
    apply IH, (r_add HK); auto. now apply (r_exp HK), (r_sub HK). }
  assert (Hf : forall ma mb, R ma mb ->
      R (match sa with None => o_zero KA | Some s => o_exp KA (o_sub KA s ma) end)
        (match sb with None => o_zero KB | Some s => o_exp KB (o_sub KB s mb) end)).
  { intros ma mb Hm. destruct sa, sb; simpl in Hs; try contradiction;
      [now apply (r_exp HK), (r_sub HK)|apply (r_zero HK)]. }
  destruct Ht; [apply (r_least HK)|].
  apply (r_add HK); auto. apply (r_ln HK), (r_add HK); auto.
Qed.

Variables (pa : problem A) (pb : problem B).
Hypothesis HP : problem_related pa pb.

Lemma key_head_related h : key_head pa h = key_head pb h.
Proof. unfold key_head. now rewrite (r_group _ _ HP). Qed.

Lemma q_of_related r d : R (q_of pa r d) (q_of pb r d).
Proof. apply (r_q _ _ HP). Qed.
Lemma k_of_related r j d : R (k_of pa r j d) (k_of pb r j d).
Proof. unfold k_of. rewrite key_head_related. apply (r_k _ _ HP). Qed.
Lemma v_of_related r j e : R (v_of pa r j e) (v_of pb r j e).
Proof. unfold v_of. rewrite key_head_related. apply (r_v _ _ HP). Qed.
Lemma g_of_related r e : R (g_of pa r e) (g_of pb r e).
Proof. apply (r_g _ _ HP). Qed.
Lemma dlse_of_related r : R (dlse_of KA pa r) (dlse_of KB pb r).
Proof.
  unfold dlse_of. generalize (r_dlse _ _ HP).
  destruct (p_dlse pa), (p_dlse pb); simpl; intros H; try contradiction; auto. apply (r_zero HK).
Qed.
Lemma bias_of_related r j : R (bias_of KA pa r j) (bias_of KB pb r j).
Proof.
  unfold bias_of, bias_row.
  rewrite (r_spread_b _ _ HP), (r_spread_h _ _ HP), (r_spread_i _ _ HP).
  generalize (r_bias _ _ HP).
  destruct (p_bias pa), (p_bias pb); simpl; intros H; try contradiction; auto. apply (r_zero HK).
Qed.
Lemma z_of_related r j : R (z_of KA pa r j) (z_of KB pb r j).
Proof.
  unfold z_of. apply (r_mul HK); [apply (r_scale _ _ HP)|]. rewrite (r_features _ _ HP).
  apply dot_related; intros; [apply q_of_related|apply k_of_related].
Qed.
Lemma score_related r j : R (score KA pa r j) (score KB pb r j).
Proof.
  unfold score. generalize (r_softcap _ _ HP) (z_of_related r j) (bias_of_related r j).
  destruct (p_softcap pa), (p_softcap pb); simpl; intros H Hz Hb; try contradiction; apply (r_add HK); auto.
  apply (r_mul HK); auto. apply (r_tanh HK), (r_div HK); auto.
Qed.
Lemma slope_related c r j : R (slope KA pa c r j) (slope KB pb c r j).
Proof.
  unfold slope. generalize (r_softcap _ _ HP) (z_of_related r j) (r_scale _ _ HP).
  destruct (p_softcap pa), (p_softcap pb); simpl; intros H Hz Hs; try contradiction; auto.
  apply (r_mul HK); auto. now apply sech_squared_related, (r_div HK).
Qed.
Lemma visible_keys_related r : visible_keys pa r = visible_keys pb r.
Proof. unfold visible_keys. now rewrite (r_visible _ _ HP), (r_keys _ _ HP). Qed.

Lemma lse_of_related c r : R (lse_of KA pa c r) (lse_of KB pb c r).
Proof.
  unfold lse_of. rewrite visible_keys_related. apply log_sum_exp_related.
  - induction (visible_keys pb r); simpl; constructor; auto. apply score_related.
  - unfold sink_of. generalize (r_sink _ _ HP).
    destruct (p_sink pa), (p_sink pb); simpl; intros H; try contradiction; auto.
Qed.

Lemma o_of_related la lb r e : R la lb -> R (o_of KA pa la r e) (o_of KB pb lb r e).
Proof.
  intros Hl. unfold o_of. rewrite visible_keys_related. apply sum_related. intros j.
  apply (r_mul HK); [|apply v_of_related]. apply (r_exp HK), (r_sub HK); auto. apply score_related.
Qed.

Theorem forward_related c : saved_related (forward KA pa c) (forward KB pb c).
Proof. split; simpl; intros; [apply o_of_related|]; apply lse_of_related. Qed.

Lemma dense_weights_related c sa sb : saved_related sa sb ->
  weights_related (dense_weights KA pa c sa) (dense_weights KB pb c sb).
Proof.
  intros Hs. split; simpl; intros.
  - now rewrite (r_visible _ _ HP).
  - apply (r_exp HK), (r_sub HK); [apply score_related|apply (r_lse _ _ Hs)].
  - apply slope_related.
Qed.

Lemma delta_related sa sb r : saved_related sa sb -> R (delta KA pa sa r) (delta KB pb sb r).
Proof.
  intros Hs. unfold delta. rewrite (r_value_features _ _ HP).
  apply dot_related; intros; [apply g_of_related|apply (r_o _ _ Hs)].
Qed.

Section FromWeights.
Variables (wa : weights A) (wb : weights B) (da : row -> A) (db : row -> B).
Hypothesis Hw : weights_related wa wb.
Hypothesis Hd : forall r, R (da r) (db r).

Lemma t_of_related r j : R (t_of KA pa da r j) (t_of KB pb db r j).
Proof.
  unfold t_of. rewrite (r_value_features _ _ HP).
  apply (r_add HK); [|apply dlse_of_related]. apply (r_sub HK); auto.
  apply dot_related; intros; [apply g_of_related|apply v_of_related].
Qed.

Lemma filter_same {I} (f f' : I -> bool) (l : list I) : (forall n, f n = f' n) -> filter f l = filter f' l.
Proof. intros H. induction l as [|n l IH]; simpl; auto. now rewrite H, IH. Qed.

Lemma rows_reading_related b kh : rows_reading pa b kh = rows_reading pb b kh.
Proof. unfold rows_reading. now rewrite (r_group _ _ HP), (r_queries _ _ HP). Qed.

Lemma rows_reading_bias_related r : rows_reading_bias pa r = rows_reading_bias pb r.
Proof.
  unfold rows_reading_bias, p_heads.
  now rewrite (r_spread_b _ _ HP), (r_spread_h _ _ HP), (r_spread_i _ _ HP), (r_batch _ _ HP), (r_group _ _ HP),
    (r_key_heads _ _ HP), (r_queries _ _ HP).
Qed.

Lemma dq_related r d : R (dq KA pa wa da r d) (dq KB pb wb db r d).
Proof.
  unfold dq. rewrite (r_keys _ _ HP), (filter_same _ _ _ (r_kept _ _ Hw r)). apply sum_related. intros j.
  repeat apply (r_mul HK);
    [apply (r_w _ _ Hw)|apply t_of_related|apply (r_slope _ _ Hw)|apply k_of_related].
Qed.

Lemma dk_related b kh j d : R (dk KA pa wa da b kh j d) (dk KB pb wb db b kh j d).
Proof.
  unfold dk. rewrite rows_reading_related, (filter_same _ _ _ (fun r => r_kept _ _ Hw r j)).
  apply sum_related. intros r.
  repeat apply (r_mul HK);
    [apply (r_w _ _ Hw)|apply t_of_related|apply (r_slope _ _ Hw)|apply q_of_related].
Qed.

Lemma dv_related b kh j e : R (dv KA pa wa b kh j e) (dv KB pb wb b kh j e).
Proof.
  unfold dv. rewrite rows_reading_related, (filter_same _ _ _ (fun r => r_kept _ _ Hw r j)).
  apply sum_related. intros r. apply (r_mul HK); [apply (r_w _ _ Hw)|apply g_of_related].
Qed.

Lemma dbias_related r j : R (dbias KA pa wa da r j) (dbias KB pb wb db r j).
Proof.
  unfold dbias. rewrite rows_reading_bias_related, (filter_same _ _ _ (fun r => r_kept _ _ Hw r j)).
  apply sum_related. intros s. apply (r_mul HK); [apply (r_w _ _ Hw)|apply t_of_related].
Qed.

Theorem backward_from_weights_related :
  gradients_related (backward_from_weights KA pa wa da) (backward_from_weights KB pb wb db).
Proof.
  split; simpl; intros; auto using dq_related, dk_related, dv_related, dbias_related. apply (r_zero HK).
Qed.
End FromWeights.

Lemma dsink_related sa sb da db h : saved_related sa sb -> (forall r, R (da r) (db r)) ->
  R (dsink KA pa sa da h) (dsink KB pb sb db h).
Proof.
  intros Hs Hd. unfold dsink. rewrite (r_batch _ _ HP), (r_queries _ _ HP). generalize (r_sink _ _ HP).
  destruct (p_sink pa), (p_sink pb); simpl; intros H; try contradiction; [|apply (r_zero HK)].
  generalize (r_zero HK). generalize (o_zero KA) (o_zero KB).
  induction (rows_of (seq 0 (p_batch pb)) [h] (seq 0 (p_queries pb))) as [|r l IH]; intros x y Hxy; simpl; auto.
  apply IH, (r_sub HK); auto. apply (r_mul HK).
  - apply (r_exp HK), (r_sub HK); [apply H|apply (r_lse _ _ Hs)].
  - apply (r_sub HK); [apply Hd|apply dlse_of_related].
Qed.

Theorem backward_with_related sa sb wa wb : saved_related sa sb -> weights_related wa wb ->
  gradients_related (backward_with KA pa sa wa) (backward_with KB pb sb wb).
Proof.
  intros Hs Hw. assert (Hd : forall r, R (delta KA pa sa r) (delta KB pb sb r)) by (intros; now apply delta_related).
  split; simpl; intros; auto using dq_related, dk_related, dv_related, dbias_related, dsink_related.
Qed.

Theorem backward_related c sa sb : saved_related sa sb ->
  gradients_related (backward KA pa c sa) (backward KB pb c sb).
Proof. intros Hs. apply backward_with_related; auto. now apply dense_weights_related. Qed.

Theorem sus_backward_related c sa sb mask light la lb : saved_related sa sb -> (forall r, R (la r) (lb r)) ->
  gradients_related (sus_backward KA pa c sa mask light la) (sus_backward KB pb c sb mask light lb).
Proof.
  intros Hs Hl. apply backward_with_related; auto.
  assert (Hw := dense_weights_related c sa sb Hs). split; simpl; intros; auto.
  - unfold kept_weight. destruct (light r j); [apply (r_div HK); auto; apply (r_one HK)|apply (r_w _ _ Hw)].
  - apply (r_slope _ _ Hw).
Qed.
End Relation.
