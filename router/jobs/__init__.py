"""Work outside the request path: collect outcomes, fit a policy, recover holds."""
