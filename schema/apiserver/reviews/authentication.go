package reviews

import (
	"context"
	"fmt"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// whoAmI answers a SelfSubjectReview: `kubectl auth whoami`.
func whoAmI(ctx context.Context, asked *authenticationv1.SelfSubjectReview) error {
	u, ok := request.UserFrom(ctx)
	if !ok {
		return apierrors.NewBadRequest("no user present on request")
	}
	asked.Status.UserInfo = userInfo(u)
	return nil
}

// token answers a TokenReview: it asks the authenticator as if the token had
// come with a request.
func (c Config) token(ctx context.Context, asked *authenticationv1.TokenReview) error {
	if asked.Spec.Token == "" {
		return apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	audiences := authenticator.Audiences(asked.Spec.Audiences)
	if len(audiences) == 0 {
		audiences = c.Audiences
	}
	if len(audiences) > 0 {
		ctx = authenticator.WithAudiences(ctx, audiences)
	}
	req := (&http.Request{Header: http.Header{"Authorization": {"Bearer " + asked.Spec.Token}}}).WithContext(ctx)
	resp, ok, err := c.Authenticator.AuthenticateRequest(req)
	asked.Status = authenticationv1.TokenReviewStatus{Authenticated: ok}
	if err != nil {
		asked.Status.Error = err.Error()
	}
	if !ok || resp == nil || resp.User == nil {
		return nil
	}
	if len(audiences) > 0 && len(audiences.Intersect(resp.Audiences)) == 0 {
		return apierrors.NewInternalError(fmt.Errorf("the authenticator returned audiences %q, asked for were %q", resp.Audiences, audiences))
	}
	asked.Status.User = userInfo(resp.User)
	asked.Status.Audiences = resp.Audiences
	return nil
}

func userInfo(u user.Info) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for key, values := range u.GetExtra() {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}
